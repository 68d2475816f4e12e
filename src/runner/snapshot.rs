//! `runner snapshot`: copies the files of the image in whose container it runs into a folder, and runs nothing of it.
//!
//! For clusters without image volumes or user namespaces. Links are rewritten so that they cannot leave the copy: what
//! follows them by plain path rules (OpenSCAP does) stays inside. Bounded in files, bytes and depth. Must not leave out
//! anything of the image without an error: what is missing in the copy, a rule takes for absent.

use super::{deliver::Failure, frame::Termination};
use repave_checks::openscap::content::resolve;
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};
use std::{
    collections::HashMap,
    fs::{self, File, Metadata, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink},
    path::{Component, Path, PathBuf},
    time::Instant,
};

/// Folders of the container and not of the image: they are made, and stay empty.
const NOT_THE_IMAGE: &[&str] = &["proc", "sys", "dev", "run/secrets", "var/run/secrets"];

/// Files that container runtimes put in the place of the image's own.
const INJECTED: &[&str] = &["etc/hosts", "etc/resolv.conf", "etc/hostname"];

/// Longest list of attribute names, and longest attribute, that Linux has.
const MAX_ATTRIBUTE: usize = 64 * 1024;

/// `repave runner snapshot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The root to copy.
    from: PathBuf,
    /// Where to; must not exist.
    to: PathBuf,
    /// A folder that the pod mounts into the root; not copied. The one that the copy goes to never is.
    #[arg(long)]
    except: Vec<PathBuf>,
    /// Most files, folders and links.
    #[arg(long, default_value_t = 1_000_000)]
    max_entries: u64,
    /// Most bytes of all files; less than the volume for the copy has.
    #[arg(long, default_value_t = 3_758_096_384)]
    max_bytes: u64,
}

/// Copies everything.
pub fn run(args: &Args) -> Result<Termination, Failure> {
    let started = Instant::now();
    let mut copy = Copy::new(args)?;
    copy.all()?;
    Ok(Termination::Copied {
        entries: copy.entries,
        bytes: copy.bytes,
        millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

struct Copy<'a> {
    args: &'a Args,
    /// The file system of the root: a folder on another one is a mount.
    device: u64,
    entries: u64,
    bytes: u64,
    /// Where a file with several names was copied to first.
    linked: HashMap<(u64, u64), PathBuf>,
    /// Folders whose owner and mode are set at the end, when nothing is written into them any more.
    folders: Vec<(PathBuf, Metadata)>,
}

impl<'a> Copy<'a> {
    fn new(args: &'a Args) -> Result<Self, Failure> {
        let meta = fs::symlink_metadata(&args.from).map_err(|error| failed(&args.from, "read", &error))?;
        if !meta.is_dir() {
            return Err(format!("expected a folder to copy at {}, found none", args.from.display()).into());
        }
        fs::create_dir(&args.to).map_err(|error| failed(&args.to, "made", &error))?;
        Ok(Self {
            args,
            device: meta.dev(),
            entries: 0,
            bytes: 0,
            linked: HashMap::new(),
            folders: vec![(PathBuf::new(), meta)],
        })
    }

    fn all(&mut self) -> Result<(), Failure> {
        let mut todo = vec![PathBuf::new()];
        while let Some(folder) = todo.pop() {
            let from = self.args.from.join(&folder);
            for entry in fs::read_dir(&from).map_err(|error| failed(&from, "listed", &error))? {
                let entry = entry.map_err(|error| failed(&from, "listed", &error))?;
                let path = folder.join(entry.file_name());
                if self.one(&path)? {
                    todo.push(path);
                }
            }
        }
        // Innermost first: a folder may be one that nobody may search.
        while let Some((path, meta)) = self.folders.pop() {
            let to = self.args.to.join(&path);
            self.describe(&path, &to, &meta)?;
        }
        Ok(())
    }

    /// Copies one entry; true when it is a folder to go into.
    fn one(&mut self, path: &Path) -> Result<bool, Failure> {
        let (from, to) = (self.args.from.join(path), self.args.to.join(path));
        let meta = fs::symlink_metadata(&from).map_err(|error| failed(&from, "read", &error))?;
        if self.is_mounted_by_us(&from)
            || INJECTED.iter().any(|injected| path == Path::new(injected)) && !meta.is_symlink()
        {
            return Ok(false);
        }
        self.entries += 1;
        if self.entries > self.args.max_entries {
            let most = self.args.max_entries;
            return Err(
                format!("the image has more than {most} files: raise --max-entries, or use image volumes").into(),
            );
        }
        let kind = meta.file_type();
        if kind.is_dir() {
            return self.folder(path, &from, &to, meta);
        }
        if kind.is_symlink() {
            let target = fs::read_link(&from).map_err(|error| failed(&from, "read", &error))?;
            let inside = contained(&self.args.from, path, &target)?;
            symlink(inside, &to).map_err(|error| failed(&to, "made", &error))?;
            lchown(&to, Some(meta.uid()), Some(meta.gid())).map_err(|error| failed(&to, "given its owner", &error))?;
        } else if kind.is_file() {
            self.file(path, &from, &to, &meta)?;
        }
        // Devices, pipes and sockets are not copied: no rule reads them, and the native check reports them.
        Ok(false)
    }

    fn is_mounted_by_us(&self, from: &Path) -> bool {
        // The volume itself, not only the folder in it.
        self.args.to.parent() == Some(from)
            || self.args.to == from
            || self.args.except.iter().any(|except| except == from)
    }

    fn folder(&mut self, path: &Path, from: &Path, to: &Path, meta: Metadata) -> Result<bool, Failure> {
        fs::create_dir(to).map_err(|error| failed(to, "made", &error))?;
        if NOT_THE_IMAGE.iter().any(|other| path == Path::new(other)) {
            return Ok(false);
        }
        if meta.dev() != self.device {
            return Err(format!(
                "{} is a mount in the container, so the image's own files there cannot be seen (does the image declare a \
                 VOLUME?): use image volumes, or take the VOLUME out",
                from.display()
            )
            .into());
        }
        self.folders.push((path.to_owned(), meta));
        Ok(true)
    }

    fn file(&mut self, path: &Path, from: &Path, to: &Path, meta: &Metadata) -> Result<(), Failure> {
        let identity = (meta.dev(), meta.ino());
        if let Some(first) = self.linked.get(&identity) {
            return fs::hard_link(self.args.to.join(first), to).map_err(|error| failed(to, "linked", &error));
        }
        // By its length: a sparse file costs what it says, not what it holds.
        self.bytes = self.bytes.saturating_add(meta.len());
        if self.bytes > self.args.max_bytes {
            let most = self.args.max_bytes;
            return Err(format!(
                "the image's files have more than {most} bytes (at {}): raise --max-bytes and the volume, or use image volumes",
                from.display()
            )
            .into());
        }
        copy_bytes(from, to, meta).map_err(|error| failed(from, "copied", &error))?;
        self.describe(path, to, meta)?;
        if meta.nlink() > 1 {
            self.linked.insert(identity, path.to_owned());
        }
        Ok(())
    }

    /// Owner, then mode (a change of owner takes set-uid away), then attributes (and the file capability).
    fn describe(&self, path: &Path, to: &Path, meta: &Metadata) -> Result<(), Failure> {
        lchown(to, Some(meta.uid()), Some(meta.gid())).map_err(|error| failed(to, "given its owner", &error))?;
        let mode = Permissions::from_mode(meta.mode() & 0o7777);
        fs::set_permissions(to, mode).map_err(|error| failed(to, "given its mode", &error))?;
        attributes(&self.args.from.join(path), to);
        Ok(())
    }
}

fn failed(path: &Path, done: &str, error: &io::Error) -> Failure {
    format!("{} cannot be {done}: {error}", path.display()).into()
}

/// Never more bytes than the file says that it has.
fn copy_bytes(from: &Path, to: &Path, meta: &Metadata) -> io::Result<()> {
    use io::Read as _;
    let mut source = File::open(from)?.take(meta.len());
    let mut target = File::options().write(true).create_new(true).open(to)?;
    let copied = io::copy(&mut source, &mut target)?;
    if copied != meta.len() {
        return Err(io::Error::other(format!(
            "it has {} bytes and {copied} could be read",
            meta.len()
        )));
    }
    target.set_modified(meta.modified()?)
}

/// Extended attributes, as far as the file system of the copy and our rights allow: no rule of OpenSCAP decides by them.
fn attributes(from: &Path, to: &Path) {
    let mut names = vec![0; MAX_ATTRIBUTE];
    let Ok(length) = llistxattr(from, names.as_mut_slice()) else {
        return;
    };
    if length == 0 {
        return;
    }
    let mut value = vec![0; MAX_ATTRIBUTE];
    for name in names
        .get(..length)
        .unwrap_or_default()
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
    {
        if let Ok(length) = lgetxattr(from, name, value.as_mut_slice()) {
            let _ = lsetxattr(to, name, value.get(..length).unwrap_or_default(), XattrFlags::empty());
        }
    }
}

/// The target of a link, written so that the kernel stays inside of the copy when it follows it there by plain rules.
///
/// The link is in a real folder, `depth` deep. So many steps up reach the root, and further ones stay there, as they do
/// in the container. After that only steps down follow, through folders and other contained links: none leaves. A step
/// up after a step down could leave (the step down may be a link), so that part is resolved here.
fn contained(root: &Path, path: &Path, target: &Path) -> Result<PathBuf, Failure> {
    let depth = path.components().count() - 1;
    let is_up = |part: &Component<'_>| matches!(part, Component::ParentDir);
    let mut parts: Vec<Component<'_>> = target.components().filter(|part| *part != Component::CurDir).collect();
    let absolute = matches!(parts.first(), Some(Component::RootDir));
    let down: Vec<Component<'_>> = if absolute { parts.split_off(1) } else { parts };
    let leading = down.iter().take_while(|part| is_up(part)).count();
    let (ups, rest) = down.split_at(leading);
    let ups = if absolute { depth } else { ups.len().min(depth) };
    let Some(last_up) = rest.iter().rposition(is_up) else {
        let up = std::iter::repeat_n(Component::ParentDir, ups);
        let written: PathBuf = up.chain(rest.iter().copied()).collect();
        return Ok(if written.as_os_str().is_empty() {
            ".".into()
        } else {
            written
        });
    };
    let (winding, tail) = rest.split_at(last_up + 1);
    let start: PathBuf = path
        .components()
        .take(depth - ups)
        .chain(winding.iter().copied())
        .collect();
    let real = resolve(root, &start).ok_or_else(|| {
        Failure::from(format!(
            "the link /{} leads to {}, which winds through what does not exist: it cannot be copied safely; shorten it",
            path.display(),
            target.display()
        ))
    })?;
    let real = real.strip_prefix(root).unwrap_or(&real);
    let up = std::iter::repeat_n(Component::ParentDir, depth);
    Ok(up.chain(real.components()).chain(tail.iter().copied()).collect())
}

#[cfg(test)]
mod tests;
