//! Copies of small roots: what is kept, what is left out, and that no link leads out of a copy.

use super::*;
use proptest::prelude::*;
use std::{os::unix::net::UnixListener, process::Command};
use tempfile::TempDir;

struct Root(TempDir);

impl Root {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("image")).unwrap();
        let root = Self(dir);
        for (path, text) in files {
            let path = root.from(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn from(&self, path: &str) -> PathBuf {
        self.0.path().join("image").join(path)
    }

    fn to(&self, path: &str) -> PathBuf {
        self.0.path().join("copy").join(path)
    }

    fn args(&self) -> Args {
        Args {
            from: self.0.path().join("image"),
            to: self.0.path().join("copy"),
            except: Vec::new(),
            max_entries: 100,
            max_bytes: 1000,
        }
    }

    fn copy(&self) -> Termination {
        run(&self.args()).unwrap()
    }

    fn link(&self, path: &str, target: &str) {
        fs::create_dir_all(self.from(path).parent().unwrap()).unwrap();
        symlink(target, self.from(path)).unwrap();
    }

    fn copied_link(&self, path: &str) -> String {
        fs::read_link(self.to(path)).unwrap().to_str().unwrap().to_owned()
    }
}

#[test]
fn content_modes_times_and_hard_links_are_kept() {
    let root = Root::new(&[("etc/shadow", "root:*"), ("usr/bin/su", "elf"), ("closed/x", "")]);
    fs::set_permissions(root.from("etc/shadow"), Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(root.from("usr/bin/su"), Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(root.from("closed"), Permissions::from_mode(0o500)).unwrap();
    fs::hard_link(root.from("usr/bin/su"), root.from("usr/bin/su2")).unwrap();
    let done = root.copy();
    assert!(
        matches!(
            done,
            Termination::Copied {
                entries: 8,
                bytes: 9,
                ..
            }
        ),
        "{done:?}"
    );
    let mode = |path| fs::metadata(root.to(path)).unwrap().mode() & 0o7777;
    assert_eq!(
        (mode("etc/shadow"), mode("usr/bin/su"), mode("closed")),
        (0o000, 0o4755, 0o500)
    );
    assert_eq!(fs::metadata(root.to("usr/bin/su")).unwrap().nlink(), 2);
    let time = |path: PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(time(root.to("usr/bin/su")), time(root.from("usr/bin/su")));
}

#[test]
fn owners_are_kept_where_the_process_may_give_them() {
    let root = Root::new(&[("a", "")]);
    if lchown(root.from("a"), Some(1234), Some(4321)).is_err() {
        eprintln!("not run: it needs root");
        return;
    }
    symlink("a", root.from("l")).unwrap();
    lchown(root.from("l"), Some(7), Some(8)).unwrap();
    fs::set_permissions(root.from("a"), Permissions::from_mode(0o6711)).unwrap();
    root.copy();
    let meta = fs::symlink_metadata(root.to("a")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1234, 4321, 0o6711));
    let meta = fs::symlink_metadata(root.to("l")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (7, 8));
}

#[test]
fn extended_attributes_are_kept_where_the_file_system_has_them() {
    let root = Root::new(&[("a", "")]);
    if lsetxattr(root.from("a"), "user.x", b"value", XattrFlags::empty()).is_err() {
        eprintln!("not run: the file system has no attributes");
        return;
    }
    root.copy();
    let mut value = [0; 16];
    let length = lgetxattr(root.to("a"), "user.x", value.as_mut_slice()).unwrap();
    assert_eq!(&value[..length], b"value");
}

#[test]
fn what_belongs_to_the_container_is_left_out() {
    let root = Root::new(&[
        ("proc/1/environ", "secret"),
        ("sys/x", ""),
        ("dev/termination-log", ""),
        ("run/secrets/token", "secret"),
        ("etc/hosts", ""),
        ("etc/resolv.conf", ""),
        ("etc/hostname", ""),
        ("etc/passwd", ""),
        ("tools/repave", ""),
        ("usr/etc/hosts", "kept"),
    ]);
    let mut args = root.args();
    args.except = vec![root.from("tools")];
    run(&args).unwrap();
    for left_out in [
        "proc/1",
        "sys/x",
        "dev/termination-log",
        "run/secrets/token",
        "etc/hosts",
        "etc/resolv.conf",
        "etc/hostname",
        "tools",
    ] {
        assert!(!root.to(left_out).exists(), "{left_out}");
    }
    for kept in ["proc", "sys", "dev", "etc/passwd", "usr/etc/hosts"] {
        assert!(root.to(kept).exists(), "{kept}");
    }
}

#[test]
fn the_copy_is_not_copied_into_itself() {
    let root = Root::new(&[("etc/passwd", "")]);
    fs::create_dir(root.from("stage")).unwrap();
    let mut args = root.args();
    args.to = root.from("stage/root");
    run(&args).unwrap();
    assert!(root.from("stage/root/etc/passwd").exists() && !root.from("stage/root/stage").exists());
}

#[test]
fn devices_pipes_and_sockets_are_not_opened() {
    let root = Root::new(&[("a", "")]);
    assert!(
        Command::new("mkfifo")
            .arg(root.from("pipe"))
            .status()
            .unwrap()
            .success()
    );
    let _socket = UnixListener::bind(root.from("socket")).unwrap();
    root.copy();
    assert!(root.to("a").exists() && !root.to("pipe").exists() && !root.to("socket").exists());
}

#[test]
fn links_are_written_so_that_they_stay_inside() {
    let root = Root::new(&[
        ("etc/passwd", "ours"),
        ("usr/share/zone/UTC", "utc"),
        ("usr/lib/x/y/z", ""),
    ]);
    for (path, target, written) in [
        ("etc/profile", "/etc/passwd", "../etc/passwd"),
        ("top", "/etc", "etc"),
        ("root", "/", "."),
        ("etc/root", "/", ".."),
        ("etc/zone", "../usr/share/zone/UTC", "../usr/share/zone/UTC"),
        ("etc/up", "../../../../etc/passwd", "../etc/passwd"),
        ("usr/share/dangling", "/nowhere/x", "../../nowhere/x"),
        ("etc/self", "./passwd", "passwd"),
        ("far", "usr/lib/x/y", "usr/lib/x/y"),
        // Through a link three folders down, and four up again: lexically inside, really in the root's parent.
        ("etc/winding", "../far/../../../../../etc/passwd", "../etc/passwd"),
        ("etc/sideways", "/far/../../zone", "../usr/lib/zone"),
    ] {
        root.link(path, target);
        let inside = contained(&root.args().from, Path::new(path), Path::new(target)).unwrap();
        assert_eq!(inside.to_str().unwrap(), written, "{path} -> {target}");
    }
    root.copy();
    assert_eq!(fs::read_to_string(root.to("etc/profile")).unwrap(), "ours");
    assert_eq!(fs::read_to_string(root.to("etc/up")).unwrap(), "ours");
    assert_eq!(fs::read_to_string(root.to("etc/winding")).unwrap(), "ours");
    assert_eq!(root.copied_link("etc/profile"), "../etc/passwd");
    repave_checks::openscap::content::refuse_escaping_links(&root.to("")).unwrap();
}

#[test]
fn a_link_that_winds_through_nothing_is_refused_with_words() {
    let root = Root::new(&[("a", "")]);
    root.link("l", "none/../a");
    let message = run(&root.args()).unwrap_err().message;
    assert!(message.contains("the link /l leads to none/../a"), "{message}");
}

#[test]
fn link_loops_end() {
    let root = Root::new(&[("a", "")]);
    root.link("x", "y");
    root.link("y", "x");
    root.link("self", "self");
    root.copy();
    root.link("z", "x/../a");
    fs::remove_dir_all(root.to("")).unwrap();
    assert!(run(&root.args()).unwrap_err().message.contains("winds"));
}

#[test]
fn a_root_that_is_too_large_is_refused_before_it_is_copied() {
    let root = Root::new(&[("a", "")]);
    File::create(root.from("sparse")).unwrap().set_len(1 << 40).unwrap();
    let message = run(&root.args()).unwrap_err().message;
    assert!(
        message.contains("more than 1000 bytes") && message.contains("sparse"),
        "{message}"
    );
    assert!(!root.to("sparse").exists());
    let root = Root::new(&[]);
    for n in 0..101 {
        fs::write(root.from(&n.to_string()), "").unwrap();
    }
    assert!(run(&root.args()).unwrap_err().message.contains("more than 100 files"));
}

#[test]
fn a_missing_root_and_an_old_copy_are_refused() {
    let root = Root::new(&[("a", "")]);
    let mut missing = root.args();
    missing.from = "/nonexistent".into();
    assert!(
        run(&missing)
            .unwrap_err()
            .message
            .contains("/nonexistent cannot be read")
    );
    root.copy();
    assert!(run(&root.args()).unwrap_err().message.contains("cannot be made"));
}

#[test]
fn a_mount_that_hides_files_of_the_image_is_refused() {
    let root = Root::new(&[("var/data/x", "")]);
    let args = root.args();
    let mut copy = Copy::new(&args).unwrap();
    copy.device += 1;
    let message = copy.all().unwrap_err().message;
    assert!(
        message.contains("/var is a mount") && message.contains("VOLUME"),
        "{message}"
    );
}

proptest! {
    /// Whatever the links are: following a copied one by plain rules never leaves the copy.
    #[test]
    fn no_link_leads_out(links in prop::collection::vec(("[abc]", "(/|)(\\.\\./|[abcd]/){0,5}[abcd]"), 1..6)) {
        let root = Root::new(&[("d/d/d/f", ""), ("d/d/e", "")]);
        for (n, (name, target)) in links.iter().enumerate() {
            let path = root.from(&format!("{}{name}", "d/".repeat(n % 4)));
            let _ = symlink(target, path);
        }
        // What leads outside, if a link did.
        fs::create_dir(root.0.path().join("d")).unwrap();
        if run(&root.args()).is_err() {
            return Ok(());
        }
        let inside = fs::canonicalize(root.to("")).unwrap();
        let mut todo = vec![root.to("")];
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    todo.push(entry.path());
                } else if let Ok(real) = fs::canonicalize(entry.path()) {
                    prop_assert!(real.starts_with(&inside), "{:?} leads to {real:?}", entry.path());
                }
            }
        }
    }
}
