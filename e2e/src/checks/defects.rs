//! The planted defects: each one small change to a clean Debian image, in a layer of its own or in the configuration.
//!
//! A defect is made as a careless build would make it. Must not be written for what a tool looks for: no content that
//! only matches a pattern, no path that nobody uses.

use super::image;
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

/// Where a defect is, and so what a tool that reads a mounted root can see of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the files.
    Files,
    /// In the environment of the configuration, which OpenSCAP is told.
    Environment,
    /// In the rest of the configuration, or in a layer below: no root shows it.
    Image,
}

/// A planted defect.
pub struct Defect {
    /// For people.
    pub name: &'static str,
    /// Where it is.
    pub place: Place,
    /// Makes it.
    pub make: fn(&mut Change<'_>) -> Result<()>,
}

/// What a defect changes.
pub struct Change<'a> {
    clean: &'a Path,
    layers: Vec<tar::Builder<Vec<u8>>>,
    /// The configuration of the image.
    pub config: Value,
    /// Options of the native check, where an organisation must first say what it demands.
    pub options: Value,
}

impl<'a> Change<'a> {
    /// No change yet of the image whose root is unpacked at `clean`.
    pub fn new(clean: &'a Path, layout: &Path) -> Result<Self> {
        Ok(Self {
            clean,
            layers: Vec::new(),
            config: image::config(layout)?,
            options: json!({}),
        })
    }

    /// The layers as archives, the configuration and the options.
    pub fn finish(self) -> Result<(Vec<Vec<u8>>, Value, Value)> {
        let tars = self.layers.into_iter().map(tar::Builder::into_inner);
        Ok((tars.collect::<Result<_, _>>()?, self.config, self.options))
    }

    fn next_layer(&mut self) {
        self.layers.push(tar::Builder::new(Vec::new()));
    }

    fn entry(&mut self, path: &str, kind: tar::EntryType, (mode, owner): (u32, u64), bytes: &[u8]) -> Result<()> {
        if self.layers.is_empty() {
            self.next_layer();
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_767_225_600);
        header.set_size(bytes.len() as u64);
        if kind == tar::EntryType::Char {
            header.set_device_major(8)?;
            header.set_device_minor(0)?;
        }
        let layer = self.layers.last_mut().context("a layer")?;
        Ok(layer.append_data(&mut header, path, bytes)?)
    }

    fn file(&mut self, path: &str, mode: u32, text: impl AsRef<[u8]>) -> Result<()> {
        self.entry(path, tar::EntryType::Regular, (mode, 0), text.as_ref())
    }

    fn folder(&mut self, path: &str, mode: u32, owner: u64) -> Result<()> {
        self.entry(path, tar::EntryType::Directory, (mode, owner), &[])
    }

    fn link(&mut self, path: &str, target: &str) -> Result<()> {
        if self.layers.is_empty() {
            self.next_layer();
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        let layer = self.layers.last_mut().context("a layer")?;
        Ok(layer.append_link(&mut header, path, target)?)
    }

    fn clean(&self, path: &str) -> Result<Vec<u8>> {
        fs::read(self.clean.join(path)).with_context(|| format!("the clean image has no {path}"))
    }

    fn copy(&mut self, from: &str, to: &str, mode: u32) -> Result<()> {
        let bytes = self.clean(from)?;
        self.file(to, mode, bytes)
    }

    /// The same file with another mode (and root's), or another text; what is not there starts empty.
    fn again(&mut self, path: &str, mode: Option<u32>, edit: impl FnOnce(String) -> String) -> Result<()> {
        let (text, found) = match fs::symlink_metadata(self.clean.join(path)) {
            Ok(found) => (String::from_utf8(self.clean(path)?)?, Some(found)),
            Err(_) => (String::new(), None),
        };
        let old = found
            .as_ref()
            .map_or(0o644, |found| found.permissions().mode() & 0o7777);
        let owner = found.as_ref().map_or(0, |found| u64::from(found.uid()));
        let text = edit(text);
        self.entry(
            path,
            tar::EntryType::Regular,
            (mode.unwrap_or(old), owner),
            text.as_bytes(),
        )
    }

    fn append(&mut self, path: &str, line: &str) -> Result<()> {
        self.again(path, None, |text| text + line + "\n")
    }

    fn mode(&mut self, path: &str, mode: u32) -> Result<()> {
        self.again(path, Some(mode), |text| text)
    }

    fn replace(&mut self, path: &str, from: &str, to: &str) -> Result<()> {
        let before = String::from_utf8(self.clean(path)?)?;
        anyhow::ensure!(before.contains(from), "{path} has no {from:?} to replace");
        self.again(path, None, |text| text.replacen(from, to, 1))
    }

    fn package(&mut self, name: &str, version: &str) -> Result<()> {
        let stanza = format!(
            "\nPackage: {name}\nStatus: install ok installed\nPriority: optional\nSection: net\nMaintainer: Acme \
             <acme@example.com>\nArchitecture: all\nVersion: {version}\nDescription: package of the test estate\n"
        );
        self.append(&format!("var/lib/dpkg/info/{name}.list"), "/.")?;
        self.again("var/lib/dpkg/status", None, |text| {
            text.trim_end().to_owned() + "\n" + &stanza
        })
    }

    fn account(&mut self, uid: u32, shell: &str, hash: &str) -> Result<()> {
        self.append("etc/passwd", &format!("app:x:{uid}:1001:application:/home/app:{shell}"))?;
        self.append("etc/group", "app:x:1001:")?;
        self.append("etc/shadow", &format!("app:{hash}:20453:0:99999:7:::"))
    }

    fn history(&mut self, command: &str) {
        self.config["history"] = json!([{"created": "2026-01-01T00:00:00Z", "created_by": command}]);
    }
}

/// A freshly made test key, as ssh-keygen writes one: shape and length are right, the content is of no use.
fn key() -> String {
    let line = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW";
    format!(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n{}-----END OPENSSH PRIVATE KEY-----\n",
        format!("{line}\n").repeat(5)
    )
}

const PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJhc2ltYWdlYmFzZWltYWdlYmFzZWltYWdlYmFz build@laptop";
const HASH: &str =
    "$6$rounds=5000$saltsalt$FzXkIYOqQ4UxQPEPY0j5sjoWd/Eb3cQUPu0vQTq6DkSx0XFzTm7qVnE8rIcJQwZKZ6EPVh2oWqkhXyRk4hVqE/";

macro_rules! defects {
    ($($place:ident, $name:literal, $make:expr;)*) => { &[$(Defect { name: $name, place: Place::$place, make: $make }),*] };
}

/// All of them.
pub const DEFECTS: &[Defect] = defects! {
    Files, "world-writable file", |c| { c.folder("etc/cron.d", 0o755, 0)?; c.file("etc/cron.d/backup", 0o666, "0 3 * * * root /usr/bin/true\n") };
    Files, "world-writable directory", |c| c.folder("usr/local/lib/plugins", 0o777, 0);
    Files, "/tmp without its sticky bit", |c| c.folder("tmp", 0o777, 0);
    Files, "SUID copy of a shell", |c| c.copy("usr/bin/dash", "usr/local/bin/sh0", 0o4755);
    Files, "SUID program", |c| c.copy("usr/bin/env", "usr/local/bin/report", 0o4755);
    Files, "SGID program", |c| c.copy("usr/bin/env", "usr/local/bin/report", 0o2755);
    Files, "file capability cap_setuid", |c| {
        let bytes = c.clean("usr/bin/env")?;
        c.next_layer();
        // vfs_cap_data, revision 2, effective, CAP_SETUID (bit 7) permitted.
        let capability: &[u8] = &[1, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let layer = c.layers.last_mut().context("a layer")?;
        layer.append_pax_extensions([("SCHILY.xattr.security.capability", capability)])?;
        c.file("usr/local/bin/helper", 0o755, bytes)
    };
    Files, "file of an owner without account", |c| c.entry("srv/data.db", tar::EntryType::Regular, (0o644, 4711), b"data");
    Files, "device node of a disk", |c| c.entry("var/lib/sda", tar::EntryType::Char, (0o660, 0), &[]);
    Files, "second account with UID 0", |c| c.account(0, "/usr/sbin/nologin", "!");
    Files, "empty password", |c| c.account(1001, "/usr/sbin/nologin", "");
    Files, "password hash in /etc/passwd", |c| { c.append("etc/passwd", &format!("app:{HASH}:1001:1001::/home/app:/usr/sbin/nologin"))?; c.append("etc/group", "app:x:1001:") };
    Files, "duplicate UID", |c| c.account(2, "/usr/sbin/nologin", "!");
    Files, "duplicate GID", |c| c.append("etc/group", "operators:x:2:");
    Files, "duplicate account name", |c| c.append("etc/passwd", "daemon:x:1002:1:again:/:/usr/sbin/nologin");
    Files, "login shell of an application", |c| { c.account(1001, "/bin/bash", "!")?; c.folder("home/app", 0o700, 1001) };
    Files, "home that everybody reads", |c| { c.account(1001, "/usr/sbin/nologin", "!")?; c.folder("home/app", 0o755, 1001) };
    Files, "/etc/passwd writable by group", |c| c.mode("etc/passwd", 0o664);
    Files, "/etc/shadow readable by all", |c| c.mode("etc/shadow", 0o644);
    Files, "/etc/group writable by group", |c| c.mode("etc/group", 0o664);
    Environment, "`.` in PATH of the image", |c| { c.config["config"]["Env"] = json!(["PATH=/usr/local/bin:/usr/bin:/bin:."]); Ok(()) };
    Files, "`.` in PATH of /etc/profile", |c| c.append("etc/profile", "PATH=$PATH:.; export PATH");
    Files, "`.` in PATH of /etc/profile.d", |c| { c.file("etc/profile.d/tools.sh", 0o644, "export PATH=.:$PATH\n") };
    Files, "`.` in PATH of /etc/environment", |c| c.append("etc/environment", "PATH=\"/usr/bin:/bin:.\"");
    Files, "`.` in PATH of root's .bashrc", |c| c.append("root/.bashrc", "export PATH=$PATH:.");
    Files, "writable folder in PATH of root's .profile", |c| { c.folder("opt/tools", 0o777, 0)?; c.append("root/.profile", "PATH=/opt/tools:$PATH") };
    Files, "/etc/ld.so.preload", |c| c.file("etc/ld.so.preload", 0o644, "/usr/lib/libtrace.so\n");
    Files, "private key of a service", |c| c.file("etc/ssl/private/server.key", 0o600, key().replace("OPENSSH ", "RSA "));
    Files, "SSH host key", |c| { c.folder("etc/ssh", 0o755, 0)?; c.file("etc/ssh/ssh_host_ed25519_key", 0o600, key()) };
    Files, "AWS credentials", |c| { c.folder("root/.aws", 0o700, 0)?; c.file("root/.aws/credentials", 0o600, "[default]\naws_access_key_id = AKIAQ3EGTRX7M2WZ5K4P\naws_secret_access_key = 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\n") };
    Files, "Google Cloud key", |c| { c.folder("root/.config", 0o700, 0)?; c.folder("root/.config/gcloud", 0o700, 0)?; c.file("root/.config/gcloud/application_default_credentials.json", 0o600, "{\"client_id\": \"7.apps.googleusercontent.com\", \"client_secret\": \"d-FL95Q19q7MQmFpd7hHD0Ty\", \"refresh_token\": \"1//0gxyz7Wq5pX\", \"type\": \"authorized_user\"}\n") };
    Files, "docker login", |c| { c.folder("root/.docker", 0o700, 0)?; c.file("root/.docker/config.json", 0o600, "{\"auths\": {\"registry.example.com\": {\"auth\": \"YnVpbGQ6czNjcjN0LXRva2VuLTQy\"}}}\n") };
    Files, "kubeconfig with a token", |c| { c.folder("root/.kube", 0o700, 0)?; c.file("root/.kube/config", 0o600, "apiVersion: v1\nkind: Config\nusers:\n- name: ci\n  user:\n    token: eyJhbGciOiJSUzI1NiIsImtpZCI6IjQyIn0.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl\n") };
    Files, ".netrc with a password", |c| c.file("root/.netrc", 0o600, "machine git.example.com login build password s3cr3t-token-42\n");
    Files, ".npmrc with a token", |c| c.file("root/.npmrc", 0o600, "//registry.npmjs.org/:_authToken=npm_h7Gt2kP9sLq4Vx8zB1nM6cR3dF5jW0yTaEuI\n");
    Files, "authorized_keys of root", |c| { c.folder("root/.ssh", 0o700, 0)?; c.file("root/.ssh/authorized_keys", 0o600, format!("{PUBLIC}\n")) };
    Image, "private key that a later layer deletes", |c| { c.folder("root/.ssh", 0o700, 0)?; c.file("root/.ssh/id_ed25519", 0o600, key())?; c.next_layer(); c.file("root/.ssh/.wh.id_ed25519", 0o600, "") };
    Files, "telnet client", |c| c.package("telnet", "0.17+2.4-2+deb12u1");
    Files, "apt source over http", |c| { c.folder("etc/apt", 0o755, 0)?; c.file("etc/apt/sources.list", 0o644, "deb http://mirror.example.com/debian bookworm main\n") };
    Files, "apt source with trusted=yes", |c| { c.folder("etc/apt", 0o755, 0)?; c.file("etc/apt/sources.list", 0o644, "deb [trusted=yes] https://mirror.example.com/debian bookworm main\n") };
    Files, "link in /etc out of the image", |c| c.link("etc/gshadow-", "../../../proc/1/root/etc/shadow");
    Files, "system without security updates", |c| c.file("usr/lib/os-release", 0o644, "PRETTY_NAME=\"Debian GNU/Linux 9 (stretch)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"9\"\nVERSION=\"9 (stretch)\"\nID=debian\n");
    Image, "USER root", |c| { c.config["config"]["User"] = json!("root"); Ok(()) };
    Image, "secret in ENV", |c| { c.config["config"]["Env"] = json!(["PATH=/usr/bin:/bin", "DB_PASSWORD=tr0ub4dor-and-3"]); Ok(()) };
    Image, "port 22 exposed", |c| { c.config["config"]["ExposedPorts"] = json!({"22/tcp": {}}); Ok(()) };
    Image, "VOLUME over /etc", |c| { c.config["config"]["Volumes"] = json!({"/etc": {}}); Ok(()) };
    Image, "label that is demanded is missing", |c| { c.options = json!({"labelsRequired": ["org.opencontainers.image.source"]}); Ok(()) };
    Image, "older than is allowed", |c| { c.options = json!({"maxAge": "2160h"}); c.config["created"] = json!("2025-01-01T00:00:00Z"); Ok(()) };
    Image, "larger than is allowed", |c| { c.options = json!({"maxSize": "40Mi"}); Ok(()) };
    Image, "more layers than are allowed", |c| { c.options = json!({"maxLayers": 1}); c.file("srv/data", 0o644, "data") };
    Image, "ADD of a URL", |c| { c.history("ADD https://example.com/tool.tar.gz /opt/ # buildkit"); c.file("opt/tool.tar.gz", 0o644, "tool") };
    Image, "curl piped into a shell", |c| { c.history("RUN /bin/sh -c curl -fsSL https://example.com/install.sh | sh # buildkit"); c.file("opt/tool", 0o755, "tool") };
    Files, "package with a critical CVE", |c| c.replace("var/lib/dpkg/status", "Version: 3.0.17-1", "Version: 3.0.15-1");
    Files, "package with an exploited CVE (KEV)", |c| c.package("acme-kev", "1.0-1");
    Files, "umask 000 (login.defs)", |c| c.replace("etc/login.defs", "UMASK\t\t022", "UMASK\t\t000");
    Files, "no warning before a password expires (login.defs)", |c| c.replace("etc/login.defs", "PASS_WARN_AGE\t7", "PASS_WARN_AGE\t0");
    Files, "weak password hashes (login.defs)", |c| c.replace("etc/login.defs", "ENCRYPT_METHOD SHA512", "ENCRYPT_METHOD MD5");
    Files, "PAM accepts empty passwords", |c| c.append("etc/pam.d/common-auth", "auth sufficient pam_unix.so nullok");
    Files, "/etc/issue writable by all", |c| c.mode("etc/issue", 0o666);
    Files, "/etc/motd that tells the version", |c| c.file("etc/motd", 0o644, "Welcome to \\m running \\r \\v\n");
    Files, "sshd that lets root in", |c| {
        c.package("openssh-server", "1:9.2p1-2+deb12u7")?;
        c.folder("etc/ssh", 0o755, 0)?;
        c.file("etc/ssh/sshd_config", 0o600, "PermitRootLogin yes\nPermitEmptyPasswords yes\n")
    };
    Files, "writable folder of cron jobs", |c| c.folder("etc/cron.daily", 0o775, 0);
};
