//! The known-bad fixtures: an image layout, a root directory, a gossfile, a list of packages.
//!
//! Small and made from constants. Each defect is one that its tool is there to find.

use repave_core::digest::Digest;
use serde_json::{Value, json};
use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};
use tar::{Builder, EntryType, Header};

/// One test that must pass, so that something is evaluated, and one that must fail.
pub const GOSSFILE: &str = "file:\n  /:\n    exists: true\n  /repave-self-test/must-not-exist:\n    exists: true\n";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nsecond:x:0:0::/root:/usr/sbin/nologin\n";

fn os_release(version: &str) -> String {
    format!(
        "ID=debian\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"{version}\"\nPRETTY_NAME=\"Debian GNU/Linux {version}\"\n"
    )
}

/// Writes an OCI layout of one image with a world-writable file, a SUID shell, a second UID 0 and a bad PATH; gives the
/// digest of its manifest.
pub fn layout(folder: &Path) -> io::Result<Digest> {
    let mut tar = Builder::new(Vec::new());
    for (path, mode, content) in [
        ("etc/os-release", 0o644, os_release("12").as_str()),
        ("etc/passwd", 0o644, PASSWD),
        ("etc/cron.d/backup", 0o666, "* * * * * root /backup\n"),
        ("usr/local/bin/sh0", 0o4755, "#!/bin/sh\n"),
    ] {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content.as_bytes())?;
    }
    let layer = tar.into_inner()?;
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let blob = |bytes: &[u8]| -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes)?;
        Ok(digest)
    };
    let diff_id = blob(&layer)?;
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"User": "65532", "Env": ["PATH=.:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    })
    .to_string();
    let config_digest = blob(config.as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff_id, "size": layer.len()}],
    })
    .to_string();
    let digest = blob(manifest.as_bytes())?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len()}],
    });
    fs::write(folder.join("index.json"), index.to_string())?;
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(digest)
}

/// Writes the root directory of a small Debian whose /etc/shadow is readable by everybody.
pub fn root(folder: &Path, version: &str) -> io::Result<()> {
    for (path, mode, content) in [
        ("etc/os-release", 0o644, os_release(version)),
        ("etc/debian_version", 0o644, format!("{version}.0\n")),
        ("etc/passwd", 0o644, PASSWD.to_owned()),
        ("etc/group", 0o644, "root:x:0:\n".to_owned()),
        ("etc/shadow", 0o666, "root:*:19000:0:99999:7:::\n".to_owned()),
        ("etc/gshadow", 0o666, "root:*::\n".to_owned()),
        ("etc/profile", 0o644, "umask 000\n".to_owned()),
        ("etc/login.defs", 0o644, "UMASK 000\nPASS_MAX_DAYS 99999\n".to_owned()),
        ("var/lib/dpkg/status", 0o644, packages_of(version)),
    ] {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn packages_of(version: &str) -> String {
    ["base-files", "base-passwd", "bash", "dpkg", "libpam-runtime", "login", "passwd", "util-linux"]
        .map(|name| {
            format!(
                "Package: {name}\nStatus: install ok installed\nPriority: required\nSection: admin\nMaintainer: Repave\nArchitecture: amd64\nVersion: {version}.1\nDescription: fixture\n\n"
            )
        })
        .concat()
}

/// A list of packages of a Debian image with a vulnerable Log4j. It names its image both as Syft and as Trivy do.
pub fn packages(image: &Digest) -> Value {
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "serialNumber": "urn:uuid:00000000-0000-4000-8000-000000000001",
        "metadata": {
            "timestamp": "2026-01-01T00:00:00Z",
            "tools": {"components": [{"type": "application", "name": "repave", "version": env!("CARGO_PKG_VERSION")}]},
            "component": {
                "bom-ref": "image", "type": "container", "name": "self-test", "version": image,
                "properties": [{"name": "aquasecurity:trivy:ImageID", "value": image}],
            },
        },
        "components": [
            {
                "bom-ref": "os", "type": "operating-system", "name": "debian", "version": "12",
                "properties": [{"name": "aquasecurity:trivy:Class", "value": "os-pkgs"}, {"name": "aquasecurity:trivy:Type", "value": "debian"}],
            },
            {
                "bom-ref": "pkg:deb/debian/base-files@12.4?arch=amd64&distro=debian-12", "type": "library",
                "name": "base-files", "version": "12.4",
                "purl": "pkg:deb/debian/base-files@12.4?arch=amd64&distro=debian-12",
            },
            {
                "bom-ref": "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", "type": "library",
                "group": "org.apache.logging.log4j", "name": "log4j-core", "version": "2.14.1",
                "purl": "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1",
                "properties": [{"name": "syft:package:language", "value": "java"}, {"name": "syft:package:type", "value": "java-archive"}, {"name": "aquasecurity:trivy:PkgType", "value": "jar"}],
            },
        ],
    })
}
