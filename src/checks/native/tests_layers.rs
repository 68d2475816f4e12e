//! How layers on top of each other change what a rule sees: whiteouts, hard links, links.

use super::testing::{Image, Layer, Packing, base};

#[test]
fn whiteouts_hide_lower_layers_only() {
    let bad = || Layer::new().file("opt/d/a", 0o666, "x").file("opt/d/b", 0o666, "x");
    let a = "native.world-writable /opt/d/a";
    let b = "native.world-writable /opt/d/b";
    for (upper, expected) in [
        (Layer::new(), vec![a, b]),
        (Layer::new().file("opt/d/.wh.a", 0, ""), vec![b]),
        (Layer::new().file("opt/.wh.d", 0, ""), vec![]),
        (Layer::new().file("opt/d/.wh..wh..opq", 0, ""), vec![]),
        (
            Layer::new()
                .file("opt/d/a", 0o666, "y")
                .file("opt/d/.wh..wh..opq", 0, ""),
            vec![a],
        ),
        (
            Layer::new().file("opt/d/.wh.b", 0, "").file("opt/d/b", 0o644, "y"),
            vec![a],
        ),
        (Layer::new().file("opt/d", 0o644, "a file now"), vec![]),
        (Layer::new().dir("opt/d/", 0o755), vec![a, b]),
    ] {
        assert_eq!(Image::new(vec![base(), bad(), upper]).findings(), expected);
    }
}

#[test]
fn every_name_of_a_hard_linked_file_is_found() {
    let layer = Layer::new()
        .file("opt/a", 0o4755, "x")
        .hard_link("opt/b", "opt/a", 0o755);
    let found = Image::new(vec![base(), layer]).findings();
    assert_eq!(found, ["native.suid /opt/a", "native.suid /opt/b"]);
}

#[test]
fn content_behind_links_is_read_in_a_second_pass() {
    let lower = Layer::new().file("opt/p", 0o644, "root:x:0:0::/root:/bin/sh\nevil:x:0:0::/:/bin/false\n");
    let upper = Layer::new()
        .file("etc/.wh.passwd", 0, "")
        .hard_link("etc/passwd", "opt/p", 0o644);
    let mut image = Image::new(vec![base(), lower, upper]);
    image.layers[1].1 = Packing::Gzip;
    assert!(image.findings().contains(&"native.extra-uid0 evil".to_owned()));
}
