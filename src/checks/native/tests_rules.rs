//! One bad and one good image per rule, and what options and reports make of them.

use super::table::RULES;
use super::testing::{Image, Layer, Packing, base, now};
use super::{Limits, Options, report};
use repave_core::digest::Digest;
use repave_core::report::{Outcome, Severity, ToolName};
use serde_json::json;
use std::collections::BTreeSet;
use tar::EntryType;

const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n";

type Edit = fn(Layer) -> Layer;

/// Rule and subject, a second layer that breaks it, and one that comes close and is fine.
const FILE_CASES: &[(&str, Edit, Edit)] = &[
    (
        "native.world-writable /opt/a",
        |l| l.file("opt/a", 0o666, "x"),
        |l| l.file("opt/a", 0o664, "x").symlink("l", "a"),
    ),
    (
        "native.world-writable-dir /opt",
        |l| l.dir("opt/", 0o777),
        |l| l.dir("opt/", 0o1777),
    ),
    (
        "native.suid /opt/su",
        |l| l.file("opt/su", 0o4755, "x"),
        |l| l.file("usr/bin/passwd", 0o4755, "x"),
    ),
    (
        "native.suid /usr/bin/x",
        |l| l.file("bin/x", 0o2755, "x"),
        |l| l.file("bin/wall", 0o2755, "x"),
    ),
    (
        "native.file-capability /usr/bin/ping",
        |l| {
            l.pax(&[("SCHILY.xattr.security.capability", b"\x01\0\0\x02\n")])
                .file("usr/bin/ping", 0o755, "x")
        },
        |l| {
            l.pax(&[("SCHILY.xattr.user.note", b"x")])
                .file("usr/bin/ping", 0o755, "x")
        },
    ),
    (
        "native.unowned /opt/a",
        |l| l.owned("opt/a", 0o644, (54321, 0), "x"),
        |l| l.owned("opt/a", 0o644, (1000, 42), "x"),
    ),
    (
        "native.unowned /opt/a",
        |l| l.pax(&[("uid", b"9")]).file("opt/a", 0o644, ""),
        |l| l.file("opt/a", 0o644, ""),
    ),
    (
        "native.device-node /opt/sda",
        |l| l.device("opt/sda", EntryType::Block),
        |l| l.device("dev/null", EntryType::Char),
    ),
    (
        "native.private-key /etc/ssh/ssh_host_key",
        |l| l.file("etc/ssh/ssh_host_key", 0o600, KEY),
        |l| l.file("etc/ssh/x.pub", 0o644, KEY),
    ),
    (
        "native.private-key /etc/ssl/private/a",
        |l| l.file("etc/ssl/private/a", 0o600, KEY),
        |l| l.file("etc/ssl/private/a", 0o600, "-----BEGIN CERTIFICATE-----"),
    ),
    (
        "native.extra-uid0 toor",
        |l| {
            l.file(
                "etc/passwd",
                0o644,
                "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/false\napp:x:1000:1000::/:/bin/false\n",
            )
        },
        plain_passwd,
    ),
    (
        "native.extra-uid0 toor",
        |l| {
            l.file(
                "etc/passwd",
                0o644,
                "root:x:0:0::/root:/bin/sh\ntoor:x:00:0::/root:/bin/false\napp:x:1000:1000::/:/bin/false\n",
            )
        },
        plain_passwd,
    ),
    (
        "native.empty-password svc",
        |l| l.owned("etc/shadow", 0o640, (0, 42), "svc::1:0:99999:7:::\n"),
        |l| l.owned("etc/shadow", 0o640, (0, 42), "svc:!:1:0:99999:7:::\n"),
    ),
    (
        "native.empty-password svc",
        |l| passwd(l, "svc::5:0::/:/bin/false\n"),
        |l| passwd(l, "svc:x:5:0::/:/bin/false\n"),
    ),
    (
        "native.unshadowed-password svc",
        |l| passwd(l, "svc:$6$x:5:0::/:/bin/false\n"),
        |l| passwd(l, "svc:*:5:0::/:/bin/false\n"),
    ),
    (
        "native.account-syntax /etc/passwd",
        |l| passwd(l, "+x:x:7:0::/:/bin/false\n"),
        |l| passwd(l, "# note\n\n"),
    ),
    (
        "native.duplicate-uid 1000",
        |l| passwd(l, "b:x:1000:0::/:/bin/false\n"),
        |l| passwd(l, "b:x:1001:1000::/:/bin/false\n"),
    ),
    (
        "native.duplicate-gid 42",
        |l| group(l, "b:x:42:\n"),
        |l| group(l, "b:x:43:\n"),
    ),
    (
        "native.duplicate-name shadow",
        |l| group(l, "shadow:x:43:\n"),
        |l| group(l, "shadow2:x:43:\n"),
    ),
    (
        "native.login-shell svc",
        |l| passwd(l, "svc:x:5:0::/:/bin/bash\n"),
        |l| passwd(l, "svc:x:5:0::/:/usr/sbin/nologin\n"),
    ),
    (
        "native.login-shell svc",
        |l| passwd(l, "svc:x:5:0::/:\n"),
        |l| passwd(l, "svc:x:5:0::/:/bin/false\n"),
    ),
    (
        "native.home-mode /home/app",
        |l| l.dir("home/app/", 0o700),
        |l| passwd(l, "svc:x:65532:0::/tmp:/bin/false\n"),
    ),
    (
        "native.home-mode /root",
        |l| l.dir("root/", 0o755),
        |l| l.dir("root/", 0o750),
    ),
    (
        "native.account-file-mode /etc/shadow",
        |l| l.owned("etc/shadow", 0o644, (0, 42), "root:*:::::::\n"),
        |l| l.file("etc/shadow", 0, "root:*:::::::\n"),
    ),
    (
        "native.account-file-mode /etc/group-",
        |l| l.owned("etc/group-", 0o644, (1000, 0), ""),
        |l| l.file("etc/group-", 0o600, ""),
    ),
    (
        "native.root-path /etc/profile",
        |l| l.file("etc/profile", 0o644, "PATH=/bin:.\n"),
        |l| l.file("etc/profile", 0o644, "PATH=/bin:$PATH\n"),
    ),
    (
        "native.root-path /etc/environment",
        |l| l.file("etc/environment", 0o644, "PATH=\"/bin:\"\n"),
        |l| l.file("etc/environment", 0o644, "PATH=\"/bin\"\n"),
    ),
    (
        "native.root-path /root/.bashrc",
        |l| l.file("root/.bashrc", 0o600, "export PATH=bin:$PATH"),
        |l| l.file("root/.bashrc", 0o600, "# PATH=bin"),
    ),
    (
        "native.root-path /etc/profile.d/a.sh",
        |l| l.file("etc/profile.d/a.sh", 0o644, "PATH=/tmp:/bin"),
        |l| l.file("etc/profile.d/a.txt", 0o644, "PATH=/tmp:/bin"),
    ),
    (
        "native.root-path /root/.cshrc",
        |l| l.file("root/.cshrc", 0o600, "set path = (/home/app /bin)"),
        |l| l.file("root/.cshrc", 0o600, "set path = (/bin)"),
    ),
    (
        "native.root-path /etc/profile.d/l.sh",
        |l| {
            l.symlink("etc/profile.d/l.sh", "../../opt/env")
                .file("opt/env", 0o644, "PATH=.")
        },
        |l| l.symlink("etc/profile.d/l.sh", "../../opt/env"),
    ),
    (
        "native.ld-preload /etc/ld.so.preload",
        |l| l.file("etc/ld.so.preload", 0o644, "/opt/x.so\n"),
        |l| l.file("etc/ld.so.preload", 0o644, "\n# none\n"),
    ),
    (
        "native.escaping-symlink /etc/profile",
        |l| l.symlink("etc/profile", "/etc/other"),
        |l| l.symlink("etc/profile", "../usr/lib/profile"),
    ),
    (
        "native.escaping-symlink /etc/pam.d/su",
        |l| l.symlink("etc/pam.d/su", "../../../x"),
        |l| l.symlink("etc/pam.d/su", "common"),
    ),
    (
        "native.os-unknown /etc/os-release",
        |l| l.file("usr/lib/.wh.os-release", 0o644, ""),
        |l| l.file("usr/lib/os-release", 0o644, "ID=\"debian\"\n"),
    ),
    (
        "native.os-unknown /etc/os-release",
        |l| l.file("usr/lib/os-release", 0o644, "NAME=x\n"),
        |l| l.file("opt/x", 0o644, ""),
    ),
];

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/false\n";
const GROUP: &str = "root:x:0:\nshadow:x:42:\nnogroup:x:65534:\napp:x:1000:\n";

fn passwd(layer: Layer, more: &str) -> Layer {
    layer.file("etc/passwd", 0o644, &format!("{PASSWD}{more}"))
}

fn plain_passwd(layer: Layer) -> Layer {
    passwd(layer, "")
}

fn group(layer: Layer, more: &str) -> Layer {
    layer.file("etc/group", 0o644, &format!("{GROUP}{more}"))
}

#[test]
fn each_file_rule_finds_its_defect_and_nothing_else() {
    for (expected, bad, good) in FILE_CASES {
        let found = Image::new(vec![base(), bad(Layer::new())]).findings();
        assert!(found.contains(&(*expected).to_owned()), "{expected}: {found:?}");
        let rule = expected.split(' ').next().unwrap();
        // A second UID 0 is also a duplicate, and an unusual UID field bad syntax; all else must be this rule alone.
        let also = ["native.account-syntax /etc/passwd", "native.duplicate-uid 0"];
        let is_uid0 = rule == "native.extra-uid0";
        let is_other = |f: &&String| !(f.starts_with(rule) || is_uid0 && also.contains(&f.as_str()));
        let other = found.iter().find(is_other);
        assert_eq!(other, None, "{expected}");
        let found = Image::new(vec![base(), good(Layer::new())]).findings();
        assert_eq!(found, [""; 0], "{expected}");
    }
}

#[test]
fn each_configuration_rule_finds_its_defect_and_nothing_else() {
    for (expected, bad, good) in [
        ("native.user USER", json!({}), json!({"User": "1000:1000"})),
        ("native.user USER", json!({"User": "0:1000"}), json!({"User": "app"})),
        ("native.user USER", json!({"User": "root"}), json!({"User": "10001"})),
        (
            "native.root-path the image's environment",
            json!({"User": "app", "Env": ["PATH=/bin::/x"]}),
            json!({"User": "app", "Env": ["PATH=/bin"]}),
        ),
        (
            "native.env-secret DB_PASSWORD",
            json!({"User": "app", "Env": ["DB_PASSWORD=x"]}),
            json!({"User": "app", "Env": ["DB_PASSWORD=", "DB_PASSWORD_FILE=/run/x", "GPG_KEY=AB"]}),
        ),
        (
            "native.env-secret K",
            json!({"User": "app", "Env": ["K=AKIAABCDEFGHIJKLMNOP"]}),
            json!({"User": "app", "Env": ["K=AKIA"]}),
        ),
        (
            "native.exposed-port 22/tcp",
            json!({"User": "app", "ExposedPorts": {"22/tcp": {}}}),
            json!({"User": "app", "ExposedPorts": {"8080/tcp": {}}}),
        ),
        (
            "native.exposed-port 80",
            json!({"User": "app", "ExposedPorts": {"80": {}}}),
            json!({"User": "app", "ExposedPorts": null}),
        ),
    ] {
        let mut image = Image::new(vec![base()]);
        image.config = bad;
        assert_eq!(image.findings(), [expected]);
        image.config = good;
        assert_eq!(image.findings(), [""; 0], "{expected}");
    }
}

#[test]
fn every_rule_has_a_bad_image_in_these_tests() {
    let source = concat!(include_str!("tests_rules.rs"), include_str!("tests_content.rs"));
    let ids: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), RULES.len(), "two rules have one id");
    for id in ids {
        assert!(
            source.contains(&format!("\"{id} ")) || source.contains(&format!("\"{id}\",\n")),
            "{id} has no case"
        );
    }
}

fn on_by_default() -> u64 {
    RULES.iter().filter(|rule| !rule.on_demand).count() as u64
}

#[test]
fn a_clean_base_passes_every_rule_in_every_packing() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let mut image = Image::new(vec![base()]);
        image.layers[0].1 = packing;
        let found = image.examine().unwrap();
        assert_eq!(found.findings, [], "{packing:?}");
        // Nothing to look at: no bounds and demands, no repositories, no history, no version of the system.
        let counts = (found.evaluated, found.passed, found.not_applicable);
        let idle = 13;
        assert_eq!(
            counts,
            (on_by_default() - idle, on_by_default() - idle, idle),
            "{packing:?}"
        );
    }
}

#[test]
fn rules_about_accounts_do_not_apply_to_an_image_without_accounts() {
    let found = Image::new(vec![Layer::new().file("app", 0o755, "x")])
        .examine()
        .unwrap();
    assert_eq!(found.findings, []);
    assert_eq!(found.evaluated + found.not_applicable, on_by_default());
    assert!(found.not_applicable >= 10 && found.evaluated >= 10, "{found:?}");
}

#[test]
fn a_copy_of_a_shell_weighs_more_and_can_not_be_allowed() {
    for (layer, path) in [
        (Layer::new().file("opt/x", 0o4755, "ELF bash"), "/opt/x"),
        (Layer::new().file("usr/bin/su", 0o4755, "ELF bash"), "/usr/bin/su"),
        (Layer::new().hard_link("opt/x", "usr/bin/bash", 0o4755), "/opt/x"),
    ] {
        let mut image = Image::new(vec![base(), layer]);
        image.options.suid_allowed.insert(path.to_owned());
        let found = image.examine().unwrap().findings;
        let finding = found.iter().find(|f| f.subject.as_deref() == Some(path)).unwrap();
        assert_eq!(
            (finding.id.as_str(), finding.severity),
            ("native.suid", Severity::High),
            "{path}"
        );
    }
}

#[test]
fn options_allow_what_they_name() {
    let mut image = Image::new(vec![
        base(),
        passwd(Layer::new(), "svc:x:5:0::/:/bin/bash\n")
            .file("opt/su", 0o4755, "x")
            .file("opt/w", 0o666, "x"),
    ]);
    image.config = json!({});
    assert_eq!(image.findings().len(), 4);
    let text = r#"{"suidAllowed":["/opt/su","/usr/bin/su"],"worldWritableAllowed":["/opt/w"],
        "applicationShellsAllowed":["svc"],"allowRootUser":true}"#;
    image.options = serde_json::from_str(text).unwrap();
    assert_eq!(image.findings(), [""; 0]);
    assert!(serde_json::from_str::<Options>(r#"{"suidAlowed":[]}"#).is_err());
}

#[test]
fn a_report_is_about_the_expected_image_or_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let digest = Image::new(vec![base()]).write(folder.path());
    let examine = || super::examine(folder.path(), &Options::default(), &Limits::default(), now());
    let good = report("hardening", &digest, examine(), 7);
    assert_eq!((good.outcome.clone(), good.tool_millis), (Outcome::Completed, 7));
    assert!(good.validate("hardening", &digest, ToolName::Native).is_ok());
    let other = Digest::of(b"other");
    let bad = report("hardening", &other, examine(), 7);
    assert!(matches!(bad.outcome, Outcome::Error { ref message } if message.contains("expected image")));
    assert_eq!((bad.image, bad.evaluated), (other, 0));
}
