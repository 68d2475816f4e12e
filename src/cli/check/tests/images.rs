//! Which image is examined: of a folder, an archive of either kind, a registry; and what is refused.

use super::*;
use repave_oci::registry::testing::{TestRegistry, push_image};

#[tokio::test]
async fn a_docker_save_archive_and_its_layout_get_the_same_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    let policy = policy(folder.path(), NATIVE);
    docker_save(&tar, &[clean()]);
    let name = tar.to_str().unwrap();
    assert_eq!(ended_with(&[name, "--policy", &policy]).await, Ended::Passed);
    let scratch = folder.path().join("s");
    let image = open(name, &scratch).await.unwrap();
    assert!(image.notes[0].contains("the manifest made here"), "{:?}", image.notes);
    let layout = image.layout.to_str().unwrap();
    assert_eq!(ended_with(&[layout, "--policy", &policy]).await, Ended::Passed);

    docker_save(&tar, &[clean(), layer(&[("etc/cron.conf", 0o666, "x")])]);
    let report = folder.path().join("report.json");
    let words = [name, "--policy", &policy, "--report", report.to_str().unwrap()];
    assert_eq!(ended_with(&words).await, Ended::Failed);
    let reports: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let subjects: Vec<_> = reports[0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["subject"])
        .collect();
    assert_eq!(subjects, ["/etc/cron.conf"]);
}

#[tokio::test]
async fn an_oci_archive_keeps_its_digest_also_when_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    docker_save(&tar, &[clean()]);
    let made = open(tar.to_str().unwrap(), &folder.path().join("a")).await.unwrap();
    let packed = folder.path().join("oci.tar.gz");
    let gzip = flate2::write::GzEncoder::new(fs::File::create(&packed).unwrap(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    builder.append_dir_all(".", &made.layout).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    let read = open(packed.to_str().unwrap(), &folder.path().join("b")).await.unwrap();
    assert_eq!((read.digest, read.notes.len()), (made.digest, 0));
    let policy = policy(folder.path(), NATIVE);
    assert_eq!(
        ended_with(&[packed.to_str().unwrap(), "--policy", &policy]).await,
        Ended::Passed
    );
}

#[tokio::test]
async fn an_archive_that_lies_or_reaches_out_is_refused_and_writes_nothing_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("a.tar");
    let file = |name: &str| (name.to_owned(), b"x".to_vec());
    let zero = format!("blobs/sha256/{}", "0".repeat(64));
    let manifest = |layer: &str| {
        let text = json!([{"Config": "c.json", "Layers": [layer]}]).to_string();
        vec![("manifest.json".to_owned(), text.into_bytes()), file("c.json")]
    };
    for (files, links, says) in [
        (vec![file("../../escaped")], vec![], "leads out of the archive"),
        (vec![file("/escaped")], vec![], "expected a relative path"),
        (vec![file("a"), file("./a")], vec![], "a is in the archive twice"),
        (vec![file(&zero)], vec![], "damaged or forged"),
        (vec![file("a")], vec![], "found neither"),
        (
            manifest("l"),
            vec![("l", "../../etc/passwd")],
            "leads out of the archive",
        ),
        (manifest("l"), vec![("l", "/etc/passwd")], "expected a relative path"),
        (
            manifest("l"),
            vec![("l", "k"), ("k", "l")],
            "more than 8 links in a row",
        ),
        (manifest("l"), vec![], "the archive has no l"),
        (
            vec![("manifest.json".to_owned(), b"[]".to_vec())],
            vec![],
            "expected one image in the archive, found 0",
        ),
    ] {
        archive(&tar, &files, &links);
        let error = archive::into_layout(&tar, &folder.path().join("in/out")).unwrap_err();
        assert!(format!("{error:#}").contains(says), "{says}: {error:#}");
    }
    fs::write(&tar, b"no archive").unwrap();
    assert!(archive::into_layout(&tar, &folder.path().join("in/out")).is_err());
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["a.tar", "in"]);
}

#[tokio::test]
async fn of_several_images_the_platform_chooses_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    docker_save(&tar, &[clean()]);
    let layout = open(tar.to_str().unwrap(), &folder.path().join("a"))
        .await
        .unwrap()
        .layout;
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let entry = |architecture: &str, fake: bool| {
        let mut entry = index["manifests"][0].clone();
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        if fake {
            entry["digest"] = json!(Digest::of(architecture.as_bytes()));
        }
        entry
    };
    let write = |entries: &[Value]| {
        fs::write(
            layout.join("index.json"),
            json!({"schemaVersion": 2, "manifests": entries}).to_string(),
        )
        .unwrap();
    };
    let name = layout.to_str().unwrap();
    write(&[entry("arm64", true), entry("amd64", false), entry("unknown", true)]);
    let image = open(name, &folder.path().join("b")).await.unwrap();
    assert_eq!(json!(image.digest), index["manifests"][0]["digest"]);
    assert!(image.notes[0].contains("linux/amd64"));
    let policy = policy(folder.path(), NATIVE);
    assert_eq!(
        ended_with(&[name, "--policy", &policy, "--platform", "linux/amd64"]).await,
        Ended::Passed
    );
    write(&[entry("arm64", true), entry("s390x", true)]);
    let none = open(name, &folder.path().join("c")).await.unwrap_err().to_string();
    assert!(none.contains("no image for linux/amd64"), "{none}");
    let mut other = entry("amd64", true);
    other["digest"] = json!(Digest::of(b"other"));
    write(&[entry("amd64", false), other]);
    let several = open(name, &folder.path().join("d")).await.unwrap_err().to_string();
    assert!(several.contains("2 images for linux/amd64"), "{several}");
}

#[tokio::test]
async fn the_only_image_is_of_the_platform_that_is_asked_for_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("app.tar");
    docker_save(&tar, &[clean()]);
    let (name, policy) = (tar.to_str().unwrap(), policy(folder.path(), NATIVE));
    let layout = open(name, &folder.path().join("a")).await.unwrap().layout;
    let layout = layout.to_str().unwrap();
    let words = |image, platform| args(&[image, "--policy", &policy, "--platform", platform]);
    for image in [name, layout] {
        for other in ["linux/arm64", "windows/amd64", "linux/amd64/v3"] {
            let error = checked(&words(image, other)).await.unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "this image is linux/amd64, asked for {other}: name the platform with --platform, or another layout"
                )
            );
        }
        assert_eq!(checked(&words(image, "linux/amd64")).await.unwrap(), Ended::Passed);
    }
    // Without the option any platform is examined, and told.
    let said = async |scratch: &str| {
        let image = image::open(&args(&[layout, "--policy", "p"]), &folder.path().join(scratch)).await;
        image.unwrap().notes.join("\n")
    };
    assert!(
        said("b")
            .await
            .contains("the only image is examined, it is linux/amd64"),
        "{}",
        said("b").await
    );

    let index = Path::new(layout).join("index.json");
    let mut entries: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    // What the index says does not make it another image: neither alone nor among others.
    entries["manifests"][0]["platform"] = json!({"os": "linux", "architecture": "arm64"});
    fs::write(&index, entries.to_string()).unwrap();
    let error = checked(&words(layout, "linux/arm64")).await.unwrap_err().to_string();
    assert!(
        error.starts_with("this image is linux/amd64, asked for linux/arm64"),
        "{error}"
    );
    let mut other = entries["manifests"][0].clone();
    other["platform"]["architecture"] = json!("s390x");
    entries["manifests"].as_array_mut().unwrap().push(other);
    fs::write(&index, entries.to_string()).unwrap();
    let error = checked(&words(layout, "linux/arm64")).await.unwrap_err().to_string();
    assert!(
        error.starts_with("this image is linux/amd64, asked for linux/arm64"),
        "{error}"
    );
}

#[tokio::test]
async fn what_to_do_about_a_registry_is_said_to_who_runs_this_and_not_to_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy(folder.path(), NATIVE);
    let error = checked(&args(&["localhost:1/foo:bar", "--policy", &policy]))
        .await
        .unwrap_err();
    let said = errors::told(&error, "");
    assert!(
        said.ends_with("allow it with --insecure-host localhost:1") && !said.contains("operator"),
        "{said}"
    );
}

#[tokio::test]
async fn a_reference_is_pulled_and_judged_by_the_digest_it_has_there() {
    let registry = TestRegistry::docker().await;
    let repository = registry.repository("base/debian");
    let pushed = push_image(&registry.client(), &repository, "1", &[b"not a tar archive"]).await;
    let folder = tempfile::tempdir().unwrap();
    let name = repository.tagged("1").unwrap().to_string();
    let words = [
        &name,
        "--insecure-host",
        registry.host(),
        "--policy",
        "p",
        "--platform",
        "linux/amd64",
    ];
    let image = image::open(&args(&words), &folder.path().join("image")).await.unwrap();
    assert_eq!(image.digest, pushed.digest);
    // What cannot be read as layers is an error of the check, and never a pass.
    let policy = policy(folder.path(), LOOSE);
    let words = [
        &name,
        "--insecure-host",
        registry.host(),
        "--policy",
        &policy,
        "--platform",
        "linux/amd64",
    ];
    assert_eq!(ended_with(&words).await, Ended::Failed);
}

#[tokio::test]
async fn what_cannot_be_read_is_neither_a_pass_nor_a_failed_gate() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy(folder.path(), NATIVE);
    for (name, says) in [
        ("./nowhere", "no such file or folder"),
        ("gone.tar.gz", "no such file or folder"),
        ("Not A Reference", "neither a file or folder nor an image reference"),
        (folder.path().to_str().unwrap(), "expected an OCI layout"),
    ] {
        let error = checked(&args(&[name, "--policy", &policy])).await.unwrap_err();
        assert!(format!("{error:#}").contains(says), "{error:#}");
    }
}
