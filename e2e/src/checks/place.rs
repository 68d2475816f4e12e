//! Where the measurements happen: the tools image, the databases and the clean images, unpacked below `target/bench`.
//!
//! Candidates' roots lie inside the tools' root, because OpenSCAP runs there (chroot) and must see them. Must not use
//! tools of this machine, except for `tar`, `chroot` and `mknod`.

use super::{image, measure::Call};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The folders.
#[derive(Debug, Clone)]
pub struct Place {
    /// The checkout.
    pub checkout: PathBuf,
    /// `target/bench`.
    pub work: PathBuf,
    /// The root of the tools image; `bench` in it belongs to the measurements.
    pub tools: PathBuf,
}

impl Place {
    /// Unpacks what is not there yet and empties the rest.
    pub fn prepare() -> Result<Self> {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("e2e has a parent")?
            .to_owned();
        let work = checkout.join("target/bench");
        let place = Self {
            tools: work.join("tools"),
            checkout,
            work,
        };
        fs::create_dir_all(&place.work)?;
        for (image, into) in [
            ("tools", place.tools.clone()),
            ("grype-db", place.database("grype")),
            ("trivy-db", place.database("trivy")),
        ] {
            place.unpacked(image, &into)?;
        }
        let repave = place.checkout.join("target/x86_64-unknown-linux-gnu/e2e/repave");
        fs::copy(&repave, place.repave()).with_context(|| format!("{}: run make binaries", repave.display()))?;
        for folder in ["roots", "out", "tmp", "layouts"] {
            let folder = place.bench().join(folder);
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            fs::create_dir_all(&folder)?;
        }
        fs::create_dir_all(place.work.join("results"))?;
        // What a container has and an unpacked image has not: the runner gives its tools an empty input.
        let null = place.tools.join("dev/null");
        if !null.exists() {
            let made = Command::new("mknod")
                .args(["-m", "666"])
                .arg(&null)
                .args(["c", "1", "3"])
                .status()?;
            ensure!(made.success(), "{} was not made: {made}", null.display());
        }
        Ok(place)
    }

    fn unpacked(&self, name: &str, into: &Path) -> Result<()> {
        let layout = self.layout(name);
        let digest = image::digest(&layout).with_context(|| format!("the image {name}: run make images"))?;
        let stamp = self.work.join(format!("{name}.unpacked"));
        if fs::read_to_string(&stamp).is_ok_and(|found| found == digest.as_str()) {
            return Ok(());
        }
        if into.exists() {
            fs::remove_dir_all(into)?;
        }
        image::unpack(&layout, into)?;
        fs::write(stamp, digest.as_str())?;
        Ok(())
    }

    /// An image that `make images` made.
    pub fn layout(&self, name: &str) -> PathBuf {
        self.checkout.join("target/images").join(name)
    }

    /// The folder with a scanner's database.
    pub fn database(&self, scanner: &str) -> PathBuf {
        self.work.join("databases").join(scanner)
    }

    /// The folder inside the tools' root that is ours.
    pub fn bench(&self) -> PathBuf {
        self.tools.join("bench")
    }

    /// The folder with grype, syft and trivy.
    pub fn programs(&self) -> PathBuf {
        self.tools.join("usr/local/bin")
    }

    /// The program that is measured.
    pub fn repave(&self) -> PathBuf {
        self.programs().join("repave")
    }

    /// The path as it is called inside the tools' root.
    pub fn inside(&self, path: &Path) -> Result<PathBuf> {
        let below = path
            .strip_prefix(&self.tools)
            .context("a path outside of the tools' root")?;
        Ok(Path::new("/").join(below))
    }

    /// Unpacks an image's root to where OpenSCAP sees it.
    pub fn root(&self, name: &str, layout: &Path) -> Result<PathBuf> {
        let root = self.bench().join("roots").join(name);
        if !root.exists() {
            image::unpack(layout, &root)?;
        }
        Ok(root)
    }

    /// Puts into a root what an init container would: Goss with its libraries and the gossfile, and a null device.
    pub fn with_goss(&self, root: &Path, gossfile: &str) -> Result<()> {
        let bundle = root.join("opt/goss");
        if bundle.exists() {
            return Ok(());
        }
        fs::create_dir_all(&bundle)?;
        for entry in fs::read_dir(self.tools.join("opt/goss"))? {
            let entry = entry?;
            fs::hard_link(entry.path(), bundle.join(entry.file_name()))?;
        }
        fs::write(bundle.join("goss.yaml"), gossfile)?;
        let null = root.join("dev/null");
        if !null.exists() {
            let words = ["mknod".into(), "-m".into(), "666".into(), null.into_os_string()];
            Call::new(words.into_iter().chain(["c".into(), "1".into(), "3".into()])).output()?;
        }
        Ok(())
    }

    /// An error with what to do, where this cannot work.
    pub fn possible() -> Result<()> {
        let id = Call::new(["id", "-u"]).output()?;
        ensure!(
            id == b"0\n",
            "expected root, for chroot and for owners of files; run: sudo make bench-checks"
        );
        Ok(())
    }
}
