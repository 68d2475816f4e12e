//! `runner install`: copies this program and the Goss bundle into a folder that the candidate's container mounts.
//!
//! Must not link or move: the folder is another file system, and the candidate must not be able to write what it runs.

use super::{deliver::Failure, frame::Termination};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

/// More files than a bundle has.
const MAX_FILES: usize = 100;

/// `repave runner install`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to.
    directory: PathBuf,
    /// The Goss bundle: goss, its loader and its libraries.
    #[arg(long, default_value = "/opt/goss")]
    bundle: PathBuf,
    /// Leave the bundle out.
    #[arg(long)]
    without_goss: bool,
    /// A folder of the candidate that must exist because something will be mounted there: a real one, since a link
    /// would lead the mount to a place of the candidate's choice.
    #[arg(long)]
    expect_folder: Vec<PathBuf>,
    /// Make an empty file that everybody may write to: `/dev/null` for a root directory that has no devices.
    #[arg(long)]
    null_file: Option<PathBuf>,
}

/// Copies everything.
pub fn run(args: &Args) -> Result<Termination, Failure> {
    let started = Instant::now();
    for folder in &args.expect_folder {
        expect(folder)?;
    }
    if let Some(null) = &args.null_file {
        fs::write(null, "")
            .and_then(|()| fs::set_permissions(null, fs::Permissions::from_mode(0o666)))
            .map_err(|error| format!("{} cannot be made: {error}", null.display()))?;
    }
    copy(Path::new("/proc/self/exe"), &args.directory.join("repave"))?;
    if !args.without_goss {
        copy_bundle(args)?;
    }
    Ok(Termination::Installed {
        millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn expect(folder: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        found => Err(format!(
            "expected the image to have the folder {}, found {}: goss in mode Chroot needs it; use mode InImage",
            folder.display(),
            found.map_or_else(|error| error.to_string(), |_| "something else".to_owned())
        )
        .into()),
    }
}

fn copy_bundle(args: &Args) -> Result<(), Failure> {
    let goss = args.directory.join("goss");
    fs::create_dir_all(&goss).map_err(|error| format!("{} cannot be made: {error}", goss.display()))?;
    let mut copied = 0;
    let cannot_list = |error: io::Error| format!("the bundle {} cannot be listed: {error}", args.bundle.display());
    for entry in fs::read_dir(&args.bundle).map_err(cannot_list)?.take(MAX_FILES) {
        let entry = entry.map_err(cannot_list)?;
        if fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file()) {
            copy(&entry.path(), &goss.join(entry.file_name()))?;
            copied += 1;
        }
    }
    if copied < 2 {
        return Err(format!(
            "expected goss and its loader in {}, found {copied} files",
            args.bundle.display()
        )
        .into());
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::copy(from, to)
        .and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(0o555)))
        .map_err(|error| format!("{} cannot be copied to {}: {error}", from.display(), to.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(to: &Path, bundle: &Path) -> Args {
        Args {
            directory: to.into(),
            bundle: bundle.into(),
            without_goss: false,
            expect_folder: Vec::new(),
            null_file: None,
        }
    }

    #[test]
    fn without_goss_only_the_program_is_copied() {
        let to = tempfile::tempdir().unwrap();
        let mut args = args(to.path(), Path::new("/nonexistent"));
        args.without_goss = true;
        assert!(matches!(run(&args).unwrap(), Termination::Installed { .. }));
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
        let null = to.path().join("null");
        args.null_file = Some(null.clone());
        run(&args).unwrap();
        assert_eq!(fs::metadata(null).unwrap().permissions().mode() & 0o777, 0o666);
    }

    #[test]
    fn a_folder_that_is_to_be_mounted_over_must_be_there_and_be_no_link() {
        let (to, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(image.path().join("tmp")).unwrap();
        std::os::unix::fs::symlink("/usr", image.path().join("link")).unwrap();
        fs::write(image.path().join("file"), "").unwrap();
        for (name, fine) in [("tmp", true), ("link", false), ("file", false), ("none", false)] {
            let mut args = args(to.path(), Path::new("/nonexistent"));
            args.without_goss = true;
            args.expect_folder = vec![image.path().join(name)];
            let done = run(&args);
            assert_eq!(done.is_ok(), fine, "{name}");
            let words = done.err().map(|failure| failure.message).unwrap_or_default();
            assert!(fine || words.contains("use mode InImage"), "{words}");
        }
    }

    #[test]
    fn the_program_and_the_bundle_are_copied_as_executable_files_that_nobody_may_write() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["goss", "ld-linux-x86-64.so.2"] {
            fs::write(from.path().join(name), name).unwrap();
        }
        let args = args(to.path(), from.path());
        assert!(matches!(run(&args).unwrap(), Termination::Installed { .. }));
        for name in ["repave", "goss/goss", "goss/ld-linux-x86-64.so.2"] {
            assert_eq!(
                fs::metadata(to.path().join(name)).unwrap().permissions().mode() & 0o777,
                0o555
            );
        }
    }

    #[test]
    fn an_empty_or_missing_bundle_is_a_failure() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for bundle in [from.path().to_owned(), from.path().join("none")] {
            let args = args(to.path(), &bundle);
            assert!(
                run(&args).unwrap_err().message.contains("bundle")
                    || run(&args).unwrap_err().message.contains("expected goss")
            );
        }
    }
}
