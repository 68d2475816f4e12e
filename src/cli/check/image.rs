//! Where the image comes from: a folder, an archive or a registry; in the end always an OCI layout with one image.
//!
//! Must not choose silently: of several images one is taken only when the platform names it, and the only one is refused when
//! it is for another platform than the one that was asked for.

use super::{
    Args,
    archive::{self, MAX_DOCUMENT, OCI_LAYOUT},
};
use anyhow::{Context as _, bail, ensure};
use repave_core::{digest::Digest, image_ref::ImageRef};
use repave_oci::registry::{Descriptor, ImageIndex, LayoutLimits, Platform};
use serde::Deserialize;
use serde_json::json;
use std::{
    fs,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// Most images in an index.
const MAX_IMAGES: usize = 1000;

/// An image that can be examined.
#[derive(Debug)]
pub struct Image {
    /// The OCI layout, as an absolute path.
    pub layout: PathBuf,
    /// The manifest's digest: what is judged.
    pub digest: Digest,
    /// What people should know about where it came from.
    pub notes: Vec<String>,
}

/// Opens what the first argument names; `scratch` is made when a layout must be written.
pub async fn open(args: &Args, scratch: &Path) -> anyhow::Result<Image> {
    let platform = args.platform.as_ref();
    let path = Path::new(&args.image);
    if path.is_dir() {
        return folder(path, platform, scratch);
    }
    if path.is_file() {
        let unpacked = scratch.join("unpacked");
        let made = archive::into_layout(path, &unpacked)
            .with_context(|| format!("{}: cannot read the image in this archive", args.image))?;
        let mut image = folder(&unpacked, platform, &scratch.join("chosen"))?;
        if made {
            image.notes.push(format!(
                "a docker save archive has no manifest: {} is that of the manifest made here, not one at a registry",
                image.digest.short()
            ));
        }
        return Ok(image);
    }
    let is_path = args.image.starts_with(['.', '/']) || [".tar", ".gz", ".tgz"].iter().any(|e| args.image.ends_with(e));
    ensure!(!is_path, "{}: no such file or folder", args.image);
    Box::pin(pull(args, &or_own(platform)?, scratch)).await
}

fn or_own(asked: Option<&Platform>) -> anyhow::Result<Platform> {
    match asked {
        Some(platform) => Ok(platform.clone()),
        None => Platform::own().context("name the platform with --platform"),
    }
}

async fn pull(args: &Args, platform: &Platform, scratch: &Path) -> anyhow::Result<Image> {
    let image: ImageRef = args
        .image
        .parse()
        .context("neither a file or folder nor an image reference")?;
    let (client, auth) = args.registries.open()?;
    let limits = LayoutLimits::default();
    let pulled = client.write_layout(&image, platform, scratch, &limits, &auth);
    let pulled = with_progress(&args.image, scratch, pulled)
        .await
        .with_context(|| format!("cannot pull {image}"))?;
    Ok(Image {
        layout: fs::canonicalize(scratch)?,
        digest: pulled.manifest_digest,
        notes: Vec::new(),
    })
}

/// Shows on a terminal how much is there already.
async fn with_progress<T>(name: &str, layout: &Path, pull: impl Future<Output = T>) -> T {
    let mut pull = std::pin::pin!(pull);
    if !std::io::stderr().is_terminal() {
        return pull.await;
    }
    loop {
        tokio::select! {
            done = &mut pull => {
                eprint!("\r\x1b[K");
                return done;
            }
            () = tokio::time::sleep(Duration::from_millis(300)) => {
                let files = fs::read_dir(layout.join("blobs/sha256")).into_iter().flatten().flatten();
                let bytes: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
                eprint!("\r\x1b[Kpulling {name}: {} MiB", bytes >> 20);
            }
        }
    }
}

/// A layout folder: itself when it holds one image, or a view of it with the image of this platform.
pub fn folder(folder: &Path, asked: Option<&Platform>, view: &Path) -> anyhow::Result<Image> {
    let root = fs::canonicalize(folder)?;
    ensure!(
        root.join("oci-layout").is_file() && root.join("index.json").is_file(),
        "{}: expected an OCI layout (oci-layout, index.json and blobs), found another folder",
        folder.display()
    );
    let index: ImageIndex = serde_json::from_slice(&document(&root.join("index.json"))?)
        .with_context(|| format!("{}: index.json is not an OCI index", folder.display()))?;
    if let [only] = index.manifests.as_slice()
        && !is_index(only)
    {
        return Ok(Image {
            notes: match asked {
                Some(asked) => is_for(&root, only, asked).map(|()| Vec::new())?,
                None => vec![match platform_of(&root, only) {
                    Ok(platform) => format!("the only image is examined, it is {platform}"),
                    Err(why) => format!("the only image is examined, its platform is not known: {why:#}"),
                }],
            },
            digest: only.digest.clone(),
            layout: root,
        });
    }
    let platform = &or_own(asked)?;
    let chosen = choose(&root, &index, platform)?;
    is_for(&root, &chosen, platform)?;
    fs::create_dir_all(view)?;
    std::os::unix::fs::symlink(root.join("blobs"), view.join("blobs"))?;
    fs::write(
        view.join("index.json"),
        json!({"schemaVersion": 2, "manifests": [chosen]}).to_string(),
    )?;
    fs::write(view.join("oci-layout"), OCI_LAYOUT)?;
    Ok(Image {
        layout: fs::canonicalize(view)?,
        notes: vec![format!(
            "of several images the one for {platform} is examined: {}",
            chosen.digest
        )],
        digest: chosen.digest,
    })
}

fn is_index(descriptor: &Descriptor) -> bool {
    use repave_oci::registry::manifest::{DOCKER_LIST, OCI_INDEX};
    [OCI_INDEX, DOCKER_LIST].contains(&descriptor.media_type.as_str())
}

/// The one image of this platform, in the index or in an index right below it.
fn choose(root: &Path, index: &ImageIndex, platform: &Platform) -> anyhow::Result<Descriptor> {
    let mut images = Vec::new();
    for entry in index.manifests.iter().take(MAX_IMAGES) {
        if is_index(entry) {
            let bytes = blob(root, &entry.digest)?;
            let below: ImageIndex = serde_json::from_slice(&bytes).context("an index of the layout")?;
            images.extend(below.manifests.into_iter().take(MAX_IMAGES));
        } else {
            images.push(entry.clone());
        }
    }
    images.retain(|image| image.platform.as_ref().is_some_and(|has| has.satisfies(platform)));
    images.dedup_by(|a, b| a.digest == b.digest);
    match images.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("no image for {platform} in the layout: name another platform with --platform"),
        several => bail!("{} images for {platform} in the layout: save one alone", several.len()),
    }
}

/// What an image says of itself.
#[derive(Deserialize)]
struct Config {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

#[derive(Deserialize)]
struct ImageManifest {
    config: Descriptor,
}

/// Refuses an image for another platform.
fn is_for(root: &Path, image: &Descriptor, asked: &Platform) -> anyhow::Result<()> {
    let found = platform_of(root, image).context("the platform of the image is not known")?;
    ensure!(
        found.satisfies(asked),
        "this image is {found}, asked for {asked}: name the platform with --platform, or another layout"
    );
    Ok(())
}

/// The platform in the image's configuration; an index may say more of the same one, its variant.
fn platform_of(root: &Path, image: &Descriptor) -> anyhow::Result<Platform> {
    let manifest = serde_json::from_slice::<ImageManifest>(&blob(root, &image.digest)?);
    let manifest = manifest.with_context(|| format!("{} is not an image manifest", image.digest))?;
    let config = serde_json::from_slice::<Config>(&blob(root, &manifest.config.digest)?);
    let config = config.context("expected os and architecture in the image's configuration")?;
    // Read as a platform: whatever else is written there is not shown.
    let mut found: Platform = format!("{}/{}", config.os, config.architecture).parse()?;
    let listed = image.platform.as_ref().filter(|listed| listed.satisfies(&found));
    let variant = config.variant.filter(|variant| !variant.is_empty());
    if let Some(variant) = variant.or_else(|| listed.and_then(|listed| listed.variant.clone())) {
        found = format!("{found}/{variant}").parse()?;
    }
    Ok(found)
}

/// A document of the layout, by its digest.
fn blob(root: &Path, digest: &Digest) -> anyhow::Result<Vec<u8>> {
    let bytes = document(&root.join("blobs/sha256").join(digest.hex()))?;
    ensure!(
        Digest::of(&bytes) == *digest,
        "{digest}: its bytes have another digest: the copy is damaged or forged"
    );
    Ok(bytes)
}

fn document(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        bytes.len() as u64 <= MAX_DOCUMENT,
        "{}: expected at most {MAX_DOCUMENT} bytes",
        path.display()
    );
    Ok(bytes)
}
