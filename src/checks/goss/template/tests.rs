//! The gossfile as text, with hostile names, and as Goss itself reads it.

use super::*;
use std::{fs, path::Path, process::Command};

fn file(path: &str, mode: u16, group: &str, is_folder: bool) -> File {
    File {
        path: path.into(),
        mode,
        owner: Some("root".into()),
        group: Some(group.into()),
        is_folder,
    }
}

fn good() -> Template {
    Template {
        packages: vec!["base-files".into(), "libc6".into()],
        users: vec![User {
            name: "root".into(),
            uid: 0,
            gid: 0,
            home: "/root".into(),
            shell: "/bin/bash".into(),
        }],
        groups: vec![Group {
            name: "shadow".into(),
            gid: 42,
        }],
        files: vec![
            file("/etc/passwd", 0o644, "root", false),
            file("/etc/shadow", 0o640, "shadow", false),
            file("/tmp", 0o1777, "root", true),
            file("/usr/bin/su", 0o4755, "root", false),
        ],
        suid: vec!["/usr/bin/su".into()],
        has_find: true,
        unread_packages: None,
    }
}

/// Names that try to become YAML, a template action, or a shell command.
fn hostile() -> Template {
    let name = "a\": {x: y}\n{{ readFile \"/etc/shadow\" }}\u{2028}'#\\".to_owned();
    Template {
        packages: vec![name.clone()],
        unread_packages: Some(name.clone()),
        users: vec![User {
            name: name.clone(),
            uid: 1,
            gid: 1,
            home: name.clone(),
            shell: name.clone(),
        }],
        groups: vec![Group {
            name: name.clone(),
            gid: 1,
        }],
        files: vec![file(&name, 0o777, &name, false)],
        suid: vec![name, "/x;reboot".into(), "/x y".into(), "/$(x)".into(), "/*".into()],
        has_find: true,
    }
}

#[test]
fn a_good_image_becomes_a_gossfile() {
    insta::assert_snapshot!(gossfile(&good()));
}

#[test]
fn an_image_without_find_or_with_an_unread_database_says_so() {
    let bare = Template {
        has_find: false,
        unread_packages: Some("/var/lib/rpm".into()),
        ..Template::default()
    };
    insta::assert_snapshot!(gossfile(&bare));
}

#[test]
fn no_name_leaves_its_quotes_or_starts_an_action() {
    let yaml = gossfile(&hostile());
    assert!(!yaml.contains("{{") && !yaml.contains("}}"), "{yaml}");
    let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    let name = &hostile().packages[0];
    assert_eq!(read["package"][name]["installed"], true);
    assert_eq!(read["user"][name]["home"], name.as_str());
    assert_eq!(read["file"][name]["mode"], "0777");
    let exec = read["command"]["no-other-suid-files"]["exec"].as_str().unwrap();
    assert!(
        !exec.contains("reboot") && !exec.contains("-path /*") && !exec.contains("$("),
        "{exec}"
    );
    assert!(yaml.contains("# 5 SUID or SGID files have names"));
}

/// Goss with its loader, as the tools image has it; REPAVE_GOSS_BUNDLE names such a folder.
fn goss() -> Option<Command> {
    let plain = Path::new("/usr/bin/goss");
    if plain.exists() {
        return Some(Command::new(plain));
    }
    let bundle = std::env::var_os("REPAVE_GOSS_BUNDLE").map_or_else(|| "/opt/goss".into(), std::path::PathBuf::from);
    let mut goss = Command::new(bundle.join(crate::goss::LOADER));
    goss.arg("--library-path").arg(&bundle).arg(bundle.join("goss"));
    bundle.join("goss").exists().then_some(goss)
}

#[test]
fn goss_itself_reads_the_gossfile_and_renders_hostile_names_as_they_are() {
    for template in [good(), hostile()] {
        let Some(mut goss) = goss() else {
            println!("SKIPPED: no Goss at /usr/bin/goss, /opt/goss or $REPAVE_GOSS_BUNDLE");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("goss.yaml");
        fs::write(&path, gossfile(&template)).unwrap();
        let done = goss.arg("-g").arg(&path).arg("render").output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{said}");
        // Rendering decodes the names: an action in one would have been carried out.
        let rendered = String::from_utf8(done.stdout).unwrap();
        let hostile = template.packages[0].contains("readFile");
        assert_eq!(
            rendered.contains("{{ readFile \"/etc/shadow\" }}"),
            hostile,
            "{rendered}"
        );
        assert!(
            rendered.contains("installed: true") && rendered.contains("no-other-suid-files:"),
            "{rendered}"
        );
    }
}
