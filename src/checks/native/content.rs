//! Which files' contents are looked at, and how: kept, searched for a private key, or hashed.
//!
//! Must keep nothing that no rule reads, and nothing above the limits.

use super::error::LayerFault;
use super::limits::{FILE_BYTES, Limits};
use super::tar_stream::{Header, Kind, TarStream};
use super::tree::Inode;
use sha2::{Digest as _, Sha256};
use std::io::Read;

/// Files that rules read, when they exist. `/etc/profile.d/*.sh` comes on top.
pub(super) const KEPT: &[&str] = &[
    "/etc/passwd",
    "/etc/shadow",
    "/etc/group",
    "/etc/gshadow",
    "/etc/profile",
    "/etc/environment",
    "/etc/bash.bashrc",
    "/etc/bashrc",
    "/etc/login.defs",
    "/etc/ld.so.preload",
    "/etc/os-release",
    "/usr/lib/os-release",
    "/root/.bashrc",
    "/root/.profile",
    "/root/.bash_profile",
    "/root/.bash_login",
    "/root/.cshrc",
];

const SHELLS: &[&str] = &[
    "sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "csh", "tcsh", "busybox",
];

/// What to do with the content of one file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interest {
    pub keep: bool,
    pub key: bool,
    pub hash: bool,
}

impl Interest {
    /// By the file's path in the image and its mode.
    pub fn of(path: &[u8], mode: u16) -> Self {
        let name = basename(path);
        Self {
            keep: KEPT.iter().any(|k| k.as_bytes() == path)
                || (path.starts_with(b"/etc/profile.d/") && name.ends_with(b".sh")),
            key: is_key_name(path, name),
            hash: mode & 0o6000 != 0 || is_shell(path),
        }
    }

    pub fn any(self) -> bool {
        self.keep || self.key || self.hash
    }

    /// What is not yet known of this file.
    pub fn missing(self, inode: &Inode) -> Self {
        if inode.kind != Kind::File || inode.size == 0 {
            return Self::default();
        }
        let extra = inode.extra();
        Self {
            keep: self.keep && extra.is_none_or(|e| e.content.is_none()),
            key: self.key && extra.is_none_or(|e| e.private_key.is_none()),
            hash: self.hash && extra.is_none_or(|e| e.hash.is_none()),
        }
    }
}

pub(super) fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

/// Whether this is the path of a command interpreter.
pub(super) fn is_shell(path: &[u8]) -> bool {
    let name = basename(path);
    let dir = &path[..path.len() - name.len()];
    matches!(
        dir,
        b"/bin/" | b"/usr/bin/" | b"/sbin/" | b"/usr/sbin/" | b"/usr/local/bin/"
    ) && SHELLS.iter().any(|s| s.as_bytes() == name)
}

fn is_key_name(path: &[u8], name: &[u8]) -> bool {
    let named = [&b"_key"[..], b".pem", b".key", b".p8", b".ppk", b".asc", b".gpg"]
        .iter()
        .any(|suffix| name.ends_with(suffix));
    let ssh = [&b"id_rsa"[..], b"id_dsa", b"id_ecdsa", b"id_ed25519", b"identity"].contains(&name);
    named || ssh || path.starts_with(b"/etc/ssl/private/") || path.starts_with(b"/etc/pki/tls/private/")
}

/// Reads the data of the current entry and records what the interest asks for.
pub(super) fn capture<R: Read>(
    interest: Interest,
    header: &Header,
    tar: &mut TarStream<R>,
    inode: &mut Inode,
    kept: &mut u64,
    limits: &Limits,
) -> Result<(), LayerFault> {
    if interest.keep && header.sparse {
        return Err(LayerFault::Malformed(
            "expected a plain file in /etc, found a sparse one".into(),
        ));
    }
    if interest.keep && header.size > FILE_BYTES {
        return Err(LayerFault::limit("bytes of a configuration file", FILE_BYTES));
    }
    let mut hash = Sha256::new();
    let mut text = Vec::new();
    let mut buffer = [0_u8; 16 * 1024];
    loop {
        let n = tar.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        if interest.hash {
            hash.update(&buffer[..n]);
        }
        if interest.keep || interest.key {
            let room = usize::try_from(FILE_BYTES).unwrap_or(0).saturating_sub(text.len());
            text.extend_from_slice(&buffer[..n.min(room)]);
        }
    }
    let extra = inode.extra_mut();
    if interest.hash {
        extra.hash = Some(hash.finalize().into());
    }
    if interest.key {
        extra.private_key = Some(holds_private_key(&text));
    }
    if interest.keep {
        *kept += text.len() as u64;
        if *kept > limits.content_bytes {
            return Err(LayerFault::limit("bytes of configuration files", limits.content_bytes));
        }
        extra.content = Some(text);
    }
    Ok(())
}

/// Whether a PEM, OpenSSH, PGP or PuTTY private key starts in this text.
fn holds_private_key(text: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN ";
    if text.starts_with(b"PuTTY-User-Key-File-") {
        return true;
    }
    let mut rest = text;
    while let Some(at) = rest.windows(BEGIN.len()).position(|w| w == BEGIN) {
        rest = &rest[at + BEGIN.len()..];
        let label = &rest[..rest.len().min(64)];
        let label = label.split(|b| *b == b'-' || *b == b'\n').next().unwrap_or_default();
        if label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK") {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_keys_are_told_from_certificates() {
        for text in [
            "-----BEGIN PRIVATE KEY-----\nx",
            "# note\n-----BEGIN CERTIFICATE-----\n-----BEGIN OPENSSH PRIVATE KEY-----",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----",
            "PuTTY-User-Key-File-3: ssh-ed25519",
        ] {
            assert!(holds_private_key(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "-----BEGIN CERTIFICATE-----\nMII",
            "-----BEGIN PUBLIC KEY-----",
            "-----BEGIN ",
        ] {
            assert!(!holds_private_key(text.as_bytes()), "{text}");
        }
    }
}
