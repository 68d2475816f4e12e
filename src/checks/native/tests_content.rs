//! One bad and one good image for the rules over secrets, packages, repositories, the configuration and the history.

use super::Options;
use super::table::RULES;
use super::testing::{Image, Layer, base, now};
use repave_core::report::Severity;
use serde_json::{Value, json};

type Edit = fn(Layer) -> Layer;

const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n";
const AWS: &str = "[default]\naws_secret_access_key = abcdef\n";
const SQLITE: &[u8] = include_bytes!("../testdata/native/rpmdb.sqlite");
const NDB: &[u8] = include_bytes!("../testdata/native/Packages.db");
const BDB: &[u8] = include_bytes!("../testdata/native/Packages");

/// What is found (one line), a layer that breaks the rule, and one that comes close and is fine.
const CASES: &[(&str, Edit, Edit)] = &[
    (
        "native.credentials /root/.aws/credentials",
        |l| l.file("root/.aws/credentials", 0o600, AWS),
        |l| l.file("root/.aws/credentials", 0o600, "[default]\nregion=eu\n"),
    ),
    (
        "native.credentials /opt/.docker/config.json",
        |l| l.file("opt/.docker/config.json", 0o600, r#"{"auths":{"r":{"auth":"YTpi"}}}"#),
        |l| l.file("opt/.docker/config.json", 0o600, r#"{"auths":{"r":{}}}"#),
    ),
    (
        "native.authorized-keys /root/.ssh/authorized_keys",
        |l| l.file("root/.ssh/authorized_keys", 0o600, "ssh-ed25519 AAAA me\n"),
        |l| l.file("root/.ssh/authorized_keys", 0o600, "# nobody\n\n"),
    ),
    (
        "native.end-of-life /etc/os-release",
        |l| l.file("usr/lib/os-release", 0o644, "ID=debian\nVERSION_ID=\"11\"\n"),
        |l| l.file("usr/lib/os-release", 0o644, "ID=debian\nVERSION_ID=\"12\"\n"),
    ),
    (
        "native.end-of-life /etc/os-release",
        |l| l.file("usr/lib/os-release", 0o644, "ID=alpine\nVERSION_ID=3.20.3\n"),
        // The last day itself is a day with updates: `now` is 2026-11-01.
        |l| l.file("usr/lib/os-release", 0o644, "ID=alpine\nVERSION_ID=3.21.0\n"),
    ),
    (
        "native.package-forbidden telnet",
        |l| {
            l.file(
                "var/lib/dpkg/status",
                0o644,
                "Package: telnet\nStatus: install ok installed\n",
            )
        },
        |l| {
            l.file(
                "var/lib/dpkg/status",
                0o644,
                "Package: telnet\nStatus: deinstall ok config-files\n",
            )
        },
    ),
    (
        "native.package-forbidden rsh-redone-client",
        |l| {
            l.file(
                "var/lib/dpkg/status.d/rsh",
                0o644,
                "Package: rsh-redone-client\nVersion: 1\n",
            )
        },
        |l| {
            l.file(
                "var/lib/dpkg/status.d/rsh.md5sums",
                0o644,
                "Package: rsh-redone-client\n",
            )
        },
    ),
    (
        "native.package-forbidden openssh-server",
        |l| l.file("lib/apk/db/installed", 0o644, "C:Q1\nP:openssh-server\nV:9\n\nP:musl\n"),
        |l| l.file("lib/apk/db/installed", 0o644, "P:musl\nD:openssh-server\n"),
    ),
    (
        "native.repository-unsigned /etc/apt/sources.list",
        |l| l.file("etc/apt/sources.list", 0o644, "deb [trusted=yes] https://x/ a b\n"),
        |l| {
            l.file(
                "etc/apt/sources.list",
                0o644,
                "deb http://deb.debian.org/debian bookworm main\n",
            )
        },
    ),
    (
        "native.repository-unsigned /etc/apt/sources.list.d/x.sources",
        |l| {
            l.file(
                "etc/apt/sources.list.d/x.sources",
                0o644,
                "Types: deb\nURIs: https://x\nTrusted: yes\n",
            )
        },
        |l| {
            l.file(
                "etc/apt/sources.list.d/x.sources",
                0o644,
                "Types: deb\nURIs: https://x\nTrusted: yes\nEnabled: no\n",
            )
        },
    ),
    (
        "native.repository-unsigned /etc/apt/apt.conf.d/99x",
        |l| {
            l.file(
                "etc/apt/apt.conf.d/99x",
                0o644,
                "APT::Get::AllowUnauthenticated \"true\";\n",
            )
        },
        |l| {
            l.file(
                "etc/apt/apt.conf.d/99x",
                0o644,
                "// APT::Get::AllowUnauthenticated \"true\";\n",
            )
        },
    ),
    (
        "native.repository-unsigned /etc/yum.repos.d/x.repo",
        |l| l.file("etc/yum.repos.d/x.repo", 0o644, "[x]\nbaseurl=https://x\ngpgcheck=0\n"),
        |l| {
            l.file("etc/dnf/dnf.conf", 0o644, "[main]\ngpgcheck=1\n").file(
                "etc/yum.repos.d/x.repo",
                0o644,
                "[x]\nbaseurl=https://x\n[y]\nenabled=0\ngpgcheck=0\n",
            )
        },
    ),
    (
        "native.repository-http /etc/yum.repos.d/x.repo",
        |l| {
            l.file(
                "etc/yum.repos.d/x.repo",
                0o644,
                "[x]\ngpgcheck=1\nbaseurl=https://x\n http://y\n",
            )
        },
        |l| {
            l.file(
                "etc/yum.repos.d/x.repo",
                0o644,
                "[x]\ngpgcheck=1\nmirrorlist=https://x\n",
            )
        },
    ),
    (
        "native.repository-http /etc/apk/repositories",
        |l| l.file("etc/apk/repositories", 0o644, "@edge http://x/y\n"),
        |l| l.file("etc/apk/repositories", 0o644, "# http://x/y\nhttps://x/y\n/srv/local\n"),
    ),
    (
        "native.escaping-symlink /etc/app/conf",
        |l| l.symlink("etc/app/conf", "../../../conf"),
        |l| {
            l.symlink("etc/app/conf", "../../opt/conf")
                .symlink("etc/app/abs", "/opt/conf")
        },
    ),
    (
        "native.root-path /etc/profile.d/x.csh",
        |l| l.file("etc/profile.d/x.csh", 0o644, "setenv PATH .:/bin\n"),
        |l| l.file("etc/profile.d/x.csh", 0o644, "setenv PATH /bin:/missing\n"),
    ),
    (
        "native.root-path /root/.zshrc",
        |l| {
            l.file("root/.zshrc", 0o600, "export PATH=/opt/team:$PATH\n").raw(
                b"opt/team/",
                tar::EntryType::Directory,
                0o775,
                (0, 1000),
                b"",
                b"",
            )
        },
        // A group without members, as Debian's staff.
        |l| {
            l.file("root/.zshrc", 0o600, "export PATH=/opt/team:$PATH\n").raw(
                b"opt/team/",
                tar::EntryType::Directory,
                0o775,
                (0, 42),
                b"",
                b"",
            )
        },
    ),
];

#[test]
fn each_rule_finds_its_defect_and_nothing_else() {
    for (expected, bad, good) in CASES {
        assert_eq!(Image::new(vec![base(), bad(Layer::new())]).findings(), [*expected]);
        assert_eq!(
            Image::new(vec![base(), good(Layer::new())]).findings(),
            [""; 0],
            "{expected}"
        );
    }
}

#[test]
fn what_a_later_layer_hides_is_found_in_the_lower_one() {
    let lower = || {
        Layer::new()
            .file("opt/id_rsa", 0o600, KEY)
            .file("root/.netrc", 0o600, "machine a login b password c\n")
    };
    let (key, netrc) = ("native.hidden-secret /opt/id_rsa", "native.hidden-secret /root/.netrc");
    let (live_key, live_netrc) = ("native.private-key /opt/id_rsa", "native.credentials /root/.netrc");
    for (upper, expected) in [
        (Layer::new(), vec![live_key, live_netrc]),
        (Layer::new().file("opt/.wh.id_rsa", 0, ""), vec![live_netrc, key]),
        (
            Layer::new().file(".wh.opt", 0, "").file("root/.wh..wh..opq", 0, ""),
            vec![key, netrc],
        ),
        (
            Layer::new()
                .file("opt/id_rsa", 0o600, "no key any more")
                .file("root/.wh..netrc", 0, ""),
            vec![key, netrc],
        ),
        // A hard link keeps the file alive under another name.
        (
            Layer::new()
                .hard_link("opt/other", "opt/id_rsa", 0o600)
                .file("root/.wh..netrc", 0, ""),
            vec![live_key, "native.private-key /opt/other", netrc],
        ),
    ] {
        let found = Image::new(vec![base(), lower(), upper]).findings();
        assert_eq!(found, expected);
    }
    // Packages replace their test keys with every update.
    let shipped = Layer::new().file("usr/share/doc/test.key", 0o644, KEY);
    let found = Image::new(vec![base(), shipped, Layer::new().file("usr/share/.wh.doc", 0, "")]).findings();
    assert_eq!(found, [""; 0]);
    // Within one layer as well: every reader of the layer sees both entries.
    let twice = Layer::new()
        .file("opt/a.key", 0o600, KEY)
        .file("opt/a.key", 0o600, "nothing");
    assert_eq!(
        Image::new(vec![base(), twice]).findings(),
        ["native.hidden-secret /opt/a.key"]
    );
}

fn with_config(config: Value) -> Image {
    let mut image = Image::new(vec![base()]);
    image.config = config;
    image
}

#[test]
fn configuration_rules_find_their_defects() {
    for (expected, bad, good) in [
        (
            "native.volume /etc/app",
            json!(["/etc/app"]),
            json!(["/data", "/var/lib/postgresql"]),
        ),
        (
            "native.volume /var/run/docker.sock",
            json!(["/var/run/docker.sock"]),
            json!(["/srv/run"]),
        ),
        ("native.volume //usr/", json!(["//usr/"]), json!(["/usr/local/data"])),
        (
            "native.volume /data/../etc",
            json!(["/data/../etc"]),
            json!(["/data/etc"]),
        ),
    ] {
        let volumes = |list: &Value| {
            let paths = list.as_array().unwrap().iter();
            let volumes: serde_json::Map<String, Value> =
                paths.map(|p| (p.as_str().unwrap().to_owned(), json!({}))).collect();
            with_config(json!({"User": "app", "Volumes": volumes}))
        };
        assert_eq!(volumes(&bad).findings(), [expected]);
        assert_eq!(volumes(&good).findings(), [""; 0], "{expected}");
    }
}

fn options(text: Value) -> Options {
    serde_json::from_value(text).unwrap()
}

/// Finding, options, the members `config` and the rest of the configuration, and those of a good image.
#[test]
fn rules_that_a_policy_asks_for_find_their_defects() {
    let created = |at: &str| json!({"created": at});
    let none = || json!({});
    let user = || json!({"User": "app"});
    let labelled = |value: &str| json!({"User": "app", "Labels": {"org.opencontainers.image.source": value}});
    let cases = [
        (
            "native.label org.opencontainers.image.source",
            json!({"labelsRequired": ["org.opencontainers.image.source"]}),
            (labelled(" "), none()),
            (labelled("https://x"), none()),
        ),
        (
            "native.healthcheck HEALTHCHECK",
            json!({"rulesEnabled": ["native.healthcheck"]}),
            (json!({"User": "app", "Healthcheck": {"Test": ["NONE"]}}), none()),
            (json!({"User": "app", "Healthcheck": {"Test": ["CMD", "x"]}}), none()),
        ),
        (
            "native.shell-form ENTRYPOINT",
            json!({"rulesEnabled": ["native.shell-form"]}),
            (json!({"User": "app", "Entrypoint": ["/bin/sh", "-c", "x"]}), none()),
            (json!({"User": "app", "Entrypoint": ["/bin/x", "-c"]}), none()),
        ),
        (
            "native.age created",
            json!({"maxAge": "720h"}),
            (user(), created("2026-09-01T00:00:00Z")),
            (user(), created("2026-10-20T00:00:00Z")),
        ),
        (
            "native.age created",
            json!({"maxAge": "720h"}),
            (user(), none()),
            (user(), created("2026-11-01T12:30:00Z")),
        ),
        (
            "native.age created",
            json!({"maxAge": "720h"}),
            (user(), created("2030-01-01T00:00:00Z")),
            (user(), created("2026-11-01T12:00:00.5+00:00")),
        ),
    ];
    for (expected, asked, bad, good) in cases {
        let image = |(config, about): (Value, Value)| {
            let mut image = with_config(config);
            image.about = about;
            image.options = options(asked.clone());
            image
        };
        assert_eq!(image(bad).findings(), [expected]);
        assert_eq!(image(good).findings(), [""; 0], "{expected}");
    }
    for (expected, bad, good) in [
        ("native.size size", json!({"maxSize": "1Ki"}), json!({"maxSize": "1Mi"})),
        ("native.layers layers", json!({"maxLayers": 1}), json!({"maxLayers": 2})),
        (
            "native.package-missing ca-certificates*",
            json!({"packagesRequired": ["ca-certificates*"]}),
            json!({"packagesRequired": ["base-*"]}),
        ),
        (
            "native.package-forbidden base-files",
            json!({"packagesForbidden": ["base-*"]}),
            json!({"packagesForbidden": []}),
        ),
        (
            "native.repository-host /etc/apt/sources.list",
            json!({"repositoriesAllowed": ["deb.debian.org"]}),
            json!({"repositoriesAllowed": ["deb.debian.org", "evil.example.com"]}),
        ),
        (
            "native.apt-source /etc/apt/sources.list",
            json!({"rulesEnabled": ["native.apt-source"]}),
            json!({}),
        ),
        (
            "native.absolute-symlink /etc/localtime",
            json!({"rulesEnabled": ["native.absolute-symlink"]}),
            json!({}),
        ),
    ] {
        let upper = Layer::new()
            .file(
                "etc/apt/sources.list",
                0o644,
                "deb https://evil.example.com/debian x main\n",
            )
            .file("etc/.wh.mtab", 0, "");
        let mut image = Image::new(vec![base(), upper]);
        image.options = options(bad);
        assert_eq!(image.findings(), [expected]);
        image.options = options(good);
        assert_eq!(image.findings(), [""; 0], "{expected}");
    }
}

#[test]
fn hidden_set_id_files_are_found_on_demand_and_ports_are_allowed_by_number() {
    let lower = Layer::new()
        .file("opt/su", 0o4755, "x")
        .file("usr/bin/passwd", 0o4755, "x");
    let mut image = Image::new(vec![
        base(),
        lower,
        Layer::new().file("opt/.wh.su", 0, "").file("usr/bin/.wh.passwd", 0, ""),
    ]);
    assert_eq!(image.findings(), [""; 0]);
    image.options = options(json!({"rulesEnabled": ["native.hidden-suid"]}));
    assert_eq!(image.findings(), ["native.hidden-suid /opt/su"]);
    let mut image = with_config(json!({"User": "app", "ExposedPorts": {"80/tcp": {}, "22/tcp": {}}}));
    assert_eq!(image.findings().len(), 2);
    image.options = options(json!({"portsAllowed": [80]}));
    assert_eq!(image.findings(), ["native.exposed-port 22/tcp"]);
}

#[test]
fn the_history_is_searched() {
    for (rule, bad, good) in [
        (
            "native.history-add-url",
            "ADD https://x/y.tar.gz /opt/ # buildkit",
            "ADD --checksum=sha256:00 https://x/y /opt/",
        ),
        (
            "native.history-add-url",
            "/bin/sh -c #(nop) ADD http://x/y in /opt",
            "/bin/sh -c #(nop) ADD file:abc in / ",
        ),
        (
            "native.history-pipe-shell",
            "RUN /bin/sh -c curl -fsSL https://x/i.sh | sudo -E bash -s # buildkit",
            "RUN /bin/sh -c curl -o f https://x && sha256sum -c f | sh-checker",
        ),
        (
            "native.history-pipe-shell",
            "RUN bash <(curl -s https://x)",
            "RUN bash -c 'echo curl'",
        ),
        (
            "native.history-chmod-777",
            "RUN /bin/sh -c chmod -R 777 /opt",
            "RUN /bin/sh -c chmod 1777 /tmp && chmod 755 /777",
        ),
        (
            "native.history-secret",
            "RUN |1 NPM_TOKEN=npmtoken /bin/sh -c npm ci",
            "RUN |1 NPM_TOKEN=$T /bin/sh -c npm ci",
        ),
        (
            "native.history-secret",
            "ENV DB_PASSWORD=\"x y\"",
            "ENV DB_PASSWORD= DB_PASSWORD_FILE=/run/x GPG_KEY=AB",
        ),
        (
            "native.history-secret",
            "RUN git clone https://me:secret@example.com/x",
            "RUN git clone https://$U:$P@example.com/x",
        ),
        (
            "native.history-secret",
            "RUN aws configure set x AKIAABCDEFGHIJKLMNOP",
            "RUN aws configure set x AKIA",
        ),
    ] {
        let mut image = Image::new(vec![base()]);
        image.about = json!({"history": [{"created_by": "FROM x"}, {"created_by": bad}, {"empty_layer": true}]});
        assert_eq!(image.findings(), [format!("{rule} step 1")], "{bad}");
        let title = &image.examine().unwrap().findings[0].title;
        assert!(
            !title.contains("npmtoken") && !title.contains("secret@") && !title.contains("AKIA"),
            "{title}"
        );
        image.about = json!({"history": [{"created_by": good}]});
        assert_eq!(image.findings(), [""; 0], "{good}");
    }
}

fn raw(layer: Layer, path: &str, content: &[u8]) -> Layer {
    layer.raw(path.as_bytes(), tar::EntryType::Regular, 0o644, (0, 0), b"", content)
}

#[test]
fn packages_of_all_rpm_databases_are_read() {
    for (path, content, expected) in [
        ("var/lib/rpm/rpmdb.sqlite", SQLITE, "telnet"),
        ("usr/lib/sysimage/rpm/Packages.db", NDB, "rsh-server"),
        ("var/lib/rpm/Packages", BDB, "ypserv"),
    ] {
        let rpm = raw(Layer::new(), path, content).file("var/lib/dpkg/.wh.status", 0, "");
        let found = Image::new(vec![base(), rpm]).findings();
        assert_eq!(found, [format!("native.package-forbidden {expected}")], "{path}");
    }
    let log =
        raw(Layer::new(), "var/lib/rpm/rpmdb.sqlite", SQLITE).file("var/lib/rpm/rpmdb.sqlite-wal", 0o644, "frames");
    let mut image = Image::new(vec![base(), log]);
    assert!(image.examine().unwrap_err().to_string().contains("rpm --rebuilddb"));
    image.options = options(json!({"rulesDisabled": ["native.package-forbidden"]}));
    assert_eq!(image.findings(), [""; 0], "who does not ask needs no readable database");
    let torn = raw(Layer::new(), "var/lib/rpm/rpmdb.sqlite", &SQLITE[..8192]);
    assert!(
        Image::new(vec![base(), torn])
            .examine()
            .unwrap_err()
            .to_string()
            .contains("damaged")
    );
}

#[test]
fn unknown_rules_are_refused_with_the_list() {
    for field in ["rulesEnabled", "rulesDisabled"] {
        let error = serde_json::from_value::<Options>(json!({field: ["native.suidd"]}))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("\"native.suidd\"") && error.contains("native.suid, native.file-capability"),
            "{error}"
        );
    }
}

#[test]
fn a_rule_that_is_switched_off_finds_nothing_and_does_not_count() {
    let mut image = with_config(json!({}));
    let all = image.examine().unwrap();
    assert_eq!(image.findings(), ["native.user USER"]);
    image.options = options(json!({"rulesDisabled": ["native.user"]}));
    let fewer = image.examine().unwrap();
    assert_eq!(fewer.findings, []);
    assert_eq!(fewer.evaluated, all.evaluated - 1);
    image.options = options(json!({"rulesDisabled": ["native.healthcheck"], "rulesEnabled": ["native.healthcheck"]}));
    assert_eq!(image.findings(), ["native.user USER"], "switching off wins");
}

#[test]
fn an_unknown_system_has_no_finding_and_does_not_apply() {
    let of = |release: &str| {
        Image::new(vec![base(), Layer::new().file("usr/lib/os-release", 0o644, release)])
            .examine()
            .unwrap()
    };
    let (known, unknown) = (of("ID=debian\nVERSION_ID=12\n"), of("ID=nixos\nVERSION_ID=24.05\n"));
    assert_eq!((known.findings, unknown.findings), (vec![], vec![]));
    assert_eq!(
        (known.evaluated, known.not_applicable),
        (unknown.evaluated + 1, unknown.not_applicable - 1)
    );
    assert!(now() < "2028-06-30T00:00:00Z".parse().unwrap(), "the end of Debian 12");
}

#[test]
fn rules_on_demand_are_those_that_ordinary_images_do_not_pass() {
    let on_demand: Vec<_> = RULES
        .iter()
        .filter(|r| r.on_demand)
        .map(|r| (r.id, r.severity))
        .collect();
    let low = |id| (id, Severity::Low);
    let expected = [
        "native.hidden-suid",
        "native.absolute-symlink",
        "native.apt-source",
        "native.healthcheck",
        "native.shell-form",
    ];
    assert_eq!(on_demand, expected.map(low));
}

#[test]
fn the_ids_that_a_policy_may_name_are_those_of_the_table() {
    let ids: Vec<&str> = super::table::RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(ids, repave_core::native_rules::IDS);
}

#[test]
fn the_documentation_is_the_table() {
    let expected = super::documentation();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/native-rules.md");
    if std::env::var_os("REPAVE_WRITE_DOCS").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap();
    assert!(
        found == expected,
        "docs/native-rules.md is not what the table says; run this test with REPAVE_WRITE_DOCS=1"
    );
}
