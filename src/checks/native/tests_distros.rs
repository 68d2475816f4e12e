//! The layouts of distributions: where each keeps its name, its packages, its programs.

use super::testing::{Image, Layer, Packing, base};
use serde_json::json;
use tar::EntryType;

const SQLITE: &[u8] = include_bytes!("../testdata/native/rpmdb.sqlite");

fn passwd(layer: Layer) -> Layer {
    layer
        .file(
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/sbin/nologin\n",
        )
        .file("etc/group", 0o644, "root:x:0:\napp:x:1000:\n")
}

fn alpine() -> Layer {
    passwd(Layer::new())
        .dir("root/", 0o700)
        .file("bin/busybox", 0o755, "ELF busybox")
        .symlink("bin/sh", "/bin/busybox")
        .file(
            "etc/os-release",
            0o644,
            "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.22.1\n",
        )
        .file(
            "etc/apk/repositories",
            0o644,
            "https://dl-cdn.alpinelinux.org/alpine/v3.22/main\n",
        )
        .file(
            "lib/apk/db/installed",
            0o644,
            "C:Q1x\nP:musl\nV:1.2.5-r1\n\nC:Q1y\nP:busybox\nV:1.37\n",
        )
}

fn ubi() -> Layer {
    let repo =
        "[ubi-9-baseos-rpms]\nname = UBI\nbaseurl = https://cdn-ubi.redhat.com/content\nenabled = 1\ngpgcheck = 1\n";
    passwd(Layer::new())
        .dir("root/", 0o550)
        .file("etc/shadow", 0, "root:*:::::::\n")
        .symlink("bin", "usr/bin")
        .symlink("lib", "usr/lib")
        .symlink("etc/os-release", "../usr/lib/os-release")
        .file("usr/lib/os-release", 0o644, "ID=\"rhel\"\nVERSION_ID=\"9.6\"\n")
        .file("etc/dnf/dnf.conf", 0o644, "[main]\ngpgcheck=1\n")
        .file("etc/yum.repos.d/ubi.repo", 0o644, repo)
        .raw(
            b"var/lib/rpm/rpmdb.sqlite",
            EntryType::Regular,
            0o644,
            (0, 0),
            b"",
            SQLITE,
        )
        .file("var/lib/rpm/rpmdb.sqlite-wal", 0o644, "")
}

fn ubuntu() -> Layer {
    let sources = "Types: deb\nURIs: http://archive.ubuntu.com/ubuntu/\nSuites: noble\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n";
    base()
        .file("usr/lib/os-release", 0o644, "ID=ubuntu\nVERSION_ID=\"24.04\"\n")
        .file("etc/apt/sources.list.d/ubuntu.sources", 0o644, sources)
}

fn distroless() -> Layer {
    passwd(Layer::new())
        .dir("root/", 0o700)
        .file("usr/lib/os-release", 0o644, "ID=\"debian\"\nVERSION_ID=\"12\"\n")
        .symlink("etc/os-release", "../usr/lib/os-release")
        .file(
            "var/lib/dpkg/status.d/base",
            0o644,
            "Package: base-files\nVersion: 12\n",
        )
        .file(
            "var/lib/dpkg/status.d/base.md5sums",
            0o644,
            "d41d8cd98f00b204e9800998ecf8427e  etc/x\n",
        )
        .file("app", 0o755, "ELF")
}

#[test]
fn clean_images_of_every_family_have_no_finding() {
    for (name, layer) in [
        ("alpine", alpine()),
        ("ubi", ubi()),
        ("ubuntu", ubuntu()),
        ("distroless", distroless()),
    ] {
        let mut image = Image::new(vec![layer]);
        // The database of these tests has it so that it can be found.
        image.options.packages_forbidden.remove("telnet");
        assert_eq!(image.findings(), [""; 0], "{name}");
    }
    let scratch = Image::new(vec![Layer::new().file("app", 0o755, "ELF")])
        .examine()
        .unwrap();
    assert_eq!(scratch.findings, []);
    assert!(scratch.evaluated > 10);
}

#[test]
fn packages_are_found_in_every_family() {
    for (name, layer, package) in [
        ("alpine", alpine(), "musl"),
        ("ubi", ubi(), "glibc"),
        ("ubuntu", ubuntu(), "base-files"),
        ("distroless", distroless(), "base-files"),
    ] {
        let mut image = Image::new(vec![layer]);
        let ask = |packages: [&str; 2]| {
            serde_json::from_value(json!({"packagesRequired": packages, "packagesForbidden": []})).unwrap()
        };
        image.options = ask([package, package]);
        assert_eq!(image.findings(), [""; 0], "{name}");
        image.options = ask([package, "nowhere"]);
        assert_eq!(image.findings(), ["native.package-missing nowhere"], "{name}");
    }
}

#[test]
fn an_image_without_any_package_database_misses_what_is_required() {
    let mut image = Image::new(vec![Layer::new().file("app", 0o755, "ELF")]);
    image.options = serde_json::from_value(json!({"packagesRequired": ["ca-certificates"]})).unwrap();
    let found = image.examine().unwrap().findings;
    assert_eq!(found.len(), 1);
    assert!(found[0].title.contains("no package database"), "{}", found[0].title);
}

#[test]
fn old_releases_of_every_family_are_at_their_end() {
    for (path, release) in [
        ("etc/os-release", "ID=alpine\nVERSION_ID=3.19.1\n"),
        ("usr/lib/os-release", "ID=ubuntu\nVERSION_ID=\"20.04\"\n"),
        ("etc/os-release", "ID=\"centos\"\nVERSION_ID=\"7\"\n"),
        ("etc/os-release", "ID=\"amzn\"\nVERSION_ID=\"2\"\n"),
        ("etc/os-release", "ID=fedora\nVERSION_ID=41\n"),
    ] {
        let image = Image::new(vec![
            passwd(Layer::new()).dir("root/", 0o700).file(path, 0o644, release),
        ]);
        assert_eq!(image.findings(), ["native.end-of-life /etc/os-release"], "{release}");
    }
}

#[test]
fn with_and_without_merged_usr_the_same_programs_are_allowed() {
    for (layer, expected) in [
        (Layer::new().file("bin/su", 0o4755, "ELF su"), vec![]),
        (
            Layer::new().symlink("bin", "usr/bin").file("bin/su", 0o4755, "ELF su"),
            vec![],
        ),
        (
            Layer::new().file("bin/other", 0o4755, "ELF"),
            vec!["native.suid /bin/other"],
        ),
        (
            Layer::new().symlink("bin", "usr/bin").file("bin/other", 0o4755, "ELF"),
            vec!["native.suid /usr/bin/other"],
        ),
    ] {
        assert_eq!(Image::new(vec![layer]).findings(), expected);
    }
}

#[test]
fn sparse_files_in_pax_records_have_their_real_name_and_size() {
    let layer = Layer::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"opt/sparse"),
            ("GNU.sparse.realsize", b"1048576"),
        ])
        .file("opt/GNUSparseFile.0/sparse", 0o666, &format!("{:\0<512}", "0\n"));
    assert_eq!(
        Image::new(vec![layer]).findings(),
        ["native.world-writable /opt/sparse"]
    );
}

#[test]
fn secrets_with_names_that_are_not_utf8_are_found_in_every_packing() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let key = b"-----BEGIN PRIVATE KEY-----\n";
        let layer = Layer::new().raw(b"opt/\xff.pem", EntryType::Regular, 0o600, (0, 0), b"", key);
        let upper = Layer::new().raw(b"opt/.wh.\xff.pem", EntryType::Regular, 0o600, (0, 0), b"", b"");
        let mut image = Image::new(vec![layer, upper]);
        image.layers[0].1 = packing;
        image.layers[1].1 = packing;
        assert_eq!(image.findings(), ["native.hidden-secret /opt/\\xff.pem"], "{packing:?}");
    }
}
