//! Compares the files of a Job's ConfigMap, as they are mounted, with the digest in the Job's words. Reads only.
//!
//! Must not follow what is no file of the ConfigMap: its keys are links to files beside the folders that kubelet swaps.

use repave_core::{
    digest::Digest,
    inputs::{MAX_BYTES, MAX_FILES, digest},
};
use std::{collections::BTreeMap, fs, io::Read as _, path::Path};

/// Whether this folder has just these inputs.
///
/// # Errors
/// The sentence for people: what was expected and what was found.
pub fn are_as_asked(folder: &Path, asked: &Digest) -> Result<(), String> {
    let found =
        read(folder).map_err(|error| format!("its inputs cannot be read from {}: {error}", folder.display()))?;
    let is = digest(&found);
    if is == *asked {
        return Ok(());
    }
    let names = found.into_keys().collect::<Vec<_>>().join(", ");
    Err(format!(
        "expected the inputs {}, found {} ({names}): somebody else has written the ConfigMap of this Job. Look who may write ConfigMaps here",
        asked.short(),
        is.short()
    ))
}

/// What begins with two dots is kubelet's own.
fn read(folder: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut left = MAX_BYTES;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("..") {
            continue;
        }
        if files.len() >= MAX_FILES {
            return Err(std::io::Error::other(format!(
                "expected at most {MAX_FILES} files, found more"
            )));
        }
        let mut content = Vec::new();
        fs::File::open(entry.path())?.take(left + 1).read_to_end(&mut content)?;
        left = left
            .checked_sub(content.len() as u64)
            .ok_or_else(|| std::io::Error::other(format!("expected at most {MAX_BYTES} bytes, found more")))?;
        files.insert(name, content);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_that_somebody_else_put_there_are_refused_with_both_digests() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("..2026_01_01");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("options.json"), r#"{"strict":true,"env":["A=1"]}"#).unwrap();
        std::os::unix::fs::symlink(data.join("options.json"), folder.path().join("options.json")).unwrap();
        let ours = BTreeMap::from([("options.json".to_owned(), r#"{"strict":true}"#)]);
        assert_eq!(are_as_asked(folder.path(), &digest(&ours)), Ok(()));
        fs::write(data.join("options.json"), r#"{"strict":false}"#).unwrap();
        let why = are_as_asked(folder.path(), &digest(&ours)).unwrap_err();
        assert!(why.contains("(options.json): somebody else has written"), "{why}");
        fs::write(folder.path().join("large"), vec![b'x'; 2 << 20]).unwrap();
        let why = are_as_asked(folder.path(), &digest(&ours)).unwrap_err();
        assert!(why.contains("expected at most 1048576 bytes"), "{why}");
    }
}
