//! Every rule of the native check, and the documentation that is printed from it.
//!
//! Ids are kept in waivers and reports: none may change or be used again.

use super::rules::{Evaluate, Rule};
use super::{accounts, budget, config, environment, files, hidden, history, packages, path, repositories};
use repave_core::report::Severity::{self, Critical, High, Low, Medium};
use std::fmt::Write as _;

const fn rule(
    id: &'static str,
    severity: Severity,
    reference: &'static str,
    about: &'static str,
    remedy: &'static str,
    evaluate: Evaluate,
) -> Rule {
    Rule {
        id,
        severity,
        reference: if reference.is_empty() { None } else { Some(reference) },
        about,
        remedy,
        evaluate,
        on_demand: false,
    }
}

const fn on_demand(rule: Rule) -> Rule {
    Rule {
        on_demand: true,
        ..rule
    }
}

/// Every rule of the native check.
#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    rule("native.world-writable", High, "CIS Debian 12 7.1.11", "files that everybody may write", "chmod o-w the file", files::world_writable),
    rule("native.world-writable-dir", High, "CIS Debian 12 7.1.11", "directories that everybody may write, without a sticky bit", "chmod o-w the directory, or set its sticky bit (chmod +t)", files::world_writable_dir),
    rule("native.suid", Medium, "CIS Debian 12 7.1.13", "SUID and SGID programs beyond Debian's own and `suidAllowed`; copies of shells always (high)", "chmod ug-s the file, or add its path to suidAllowed", files::suid),
    rule("native.file-capability", Medium, "", "programs with file capabilities", "setcap -r the file, or add its path to fileCapabilitiesAllowed", files::file_capability),
    rule("native.unowned", Medium, "CIS Debian 12 7.1.12", "files whose owner or group no account has", "chown the file to an account and a group of the image", files::unowned),
    rule("native.device-node", High, "", "device nodes beyond the standard ones in /dev", "remove the device node; the runtime makes /dev", files::device_node),
    rule("native.private-key", High, "", "private keys (low where packages ship test keys: /usr/lib, /usr/share)", "remove the private key, replace it everywhere, and mount keys at run time", files::private_key),
    rule("native.credentials", High, "CIS Docker 4.10", "credentials of clouds, registries, Kubernetes, Git, npm, PyPI and .netrc", "remove the file, replace the credentials, and mount them at run time", files::credentials),
    rule("native.authorized-keys", High, "", "SSH keys that may log in", "remove authorized_keys", files::authorized_keys),
    rule("native.hidden-secret", High, "CIS Docker 4.10", "private keys and credentials in a lower layer that a later one deletes or replaces", "replace the secret, which everybody who can pull the image has, and rebuild without the layer", hidden::secret),
    on_demand(rule("native.hidden-suid", Low, "CIS Docker 4.8", "SUID and SGID programs in a lower layer that a later one deletes or replaces", "remove the bit in the layer that adds the file", hidden::set_id)),
    rule("native.extra-uid0", Critical, "CIS Debian 12 5.4.2.1", "accounts other than root with UID 0", "remove the account or give it another UID", accounts::extra_uid0),
    rule("native.empty-password", Critical, "CIS Debian 12 7.2.2", "accounts without a password", "lock the account (passwd -l)", accounts::empty_password),
    rule("native.unshadowed-password", High, "CIS Debian 12 7.2.1", "passwords in /etc/passwd", "move the password to /etc/shadow (pwconv)", accounts::unshadowed_password),
    rule("native.account-syntax", Medium, "", "lines of passwd, group and shadow that are not as the format demands", "write the line as the format of the file demands", accounts::syntax),
    rule("native.duplicate-uid", Medium, "CIS Debian 12 7.2.5", "UIDs of several accounts", "give each account its own UID", accounts::duplicate_uid),
    rule("native.duplicate-gid", Medium, "CIS Debian 12 7.2.6", "GIDs of several groups", "give each group its own GID", accounts::duplicate_gid),
    rule("native.duplicate-name", Medium, "CIS Debian 12 7.2.7, 7.2.8", "names of several accounts or groups", "give each account and group its own name", accounts::duplicate_name),
    rule("native.login-shell", Medium, "CIS Debian 12 5.4.2.7", "accounts other than root with a login shell", "usermod -s /usr/sbin/nologin the account, or add its name to applicationShellsAllowed", accounts::login_shell),
    rule("native.home-mode", Medium, "CIS Debian 12 7.2.9", "homes that others may read or that belong to somebody else", "chmod g-w,o-rwx the directory and chown it to the account", accounts::home_mode),
    rule("native.account-file-mode", High, "CIS Debian 12 7.1.1 to 7.1.8", "modes and owners of passwd, group, shadow, gshadow and their backups", "chown root and chmod 0644 passwd and group, 0640 shadow and gshadow", accounts::file_mode),
    rule("native.root-path", High, "CIS Debian 12 5.4.2.5", "`.`, empty, relative, foreign or writable elements in the PATH of root: image, profiles, start files", "list only absolute directories that root alone can write to", path::root_path),
    rule("native.ld-preload", High, "", "libraries in /etc/ld.so.preload", "empty /etc/ld.so.preload", environment::ld_preload),
    rule("native.escaping-symlink", Medium, "", "links in /etc that lead out of the image, and absolute ones among files that decide about access", "replace the link by the file, or by a relative link inside the image", environment::escaping_symlink),
    on_demand(rule("native.absolute-symlink", Low, "", "absolute links anywhere in /etc: a scanner that reads the image under a prefix follows them into itself", "use a relative link", environment::absolute_symlink)),
    rule("native.os-unknown", Medium, "", "packages without an os-release that names the system", "restore /etc/os-release, by which scanners choose their data", packages::os_unknown),
    rule("native.end-of-life", High, "CIS Docker 4.2", "a system without security updates; does not apply to a system that the table does not have", "build on a release that still gets security updates", packages::end_of_life),
    rule("native.package-forbidden", Medium, "CIS Debian 12 2.1, 2.2", "installed packages of `packagesForbidden`; by default telnet, rsh, ftp, NIS, talk, inetd and SSH servers", "remove the package, or shorten packagesForbidden", packages::forbidden),
    rule("native.package-missing", Medium, "", "packages of `packagesRequired` that are not installed", "install the package", packages::missing),
    rule("native.repository-unsigned", High, "CIS Debian 12 1.2.1", "package repositories and settings of apt, yum and dnf that accept unsigned packages", "demand signatures: remove trusted=yes and allow-insecure, set gpgcheck=1", repositories::unsigned),
    rule("native.repository-http", Medium, "", "repositories of yum, dnf and apk over plain http", "use https", repositories::plain_http),
    on_demand(rule("native.apt-source", Low, "CIS Debian 12 1.2.1", "apt sources over plain http or without Signed-By, as Debian's own", "use https and name the key with Signed-By", repositories::apt_source)),
    rule("native.repository-host", High, "CIS Debian 12 1.2.1", "repositories on hosts that `repositoriesAllowed` does not name", "use a mirror that is allowed, or add its host to repositoriesAllowed", repositories::host_allowed),
    rule("native.user", Medium, "CIS Docker 4.1", "an image that runs as root", "set USER to an account other than root", config::user),
    rule("native.env-secret", High, "CIS Docker 4.10", "secrets in the environment", "remove the variable, replace the secret, and mount secrets at run time", config::env_secret),
    rule("native.exposed-port", Low, "CIS Docker 5.8, 5.9", "exposed ports below 1024, and of remote logins (medium), beyond `portsAllowed`", "expose a port above 1023, and no remote login, or add it to portsAllowed", config::exposed_port),
    rule("native.volume", Medium, "CIS Docker, container runtime: sensitive directories", "volumes over directories of the system or the runtime's socket", "declare volumes for data only", config::volume),
    rule("native.label", Medium, "", "labels of `labelsRequired` that are missing or empty", "add the label", config::label),
    on_demand(rule("native.healthcheck", Low, "CIS Docker 4.6", "no HEALTHCHECK; Kubernetes uses probes instead", "add HEALTHCHECK", config::healthcheck)),
    on_demand(rule("native.shell-form", Low, "", "ENTRYPOINT or CMD in shell form: signals do not reach the program", "write it as a JSON list", config::shell_form)),
    rule("native.age", Medium, "", "an image that was created longer ago than `maxAge`, in the future or at an unknown time", "rebuild the image", budget::age),
    rule("native.size", Medium, "", "more unpacked bytes than `maxSize`", "remove what is not needed in the layer that adds it", budget::size),
    rule("native.layers", Medium, "", "more layers than `maxLayers`", "build with fewer steps, or squash", budget::layers),
    rule("native.history-secret", High, "CIS Docker 4.10", "secrets in the commands that the image was built with", "replace the secret, and pass it with a secret mount", history::secret),
    rule("native.history-add-url", Medium, "CIS Docker 4.9", "ADD from a URL without a checksum", "use ADD --checksum, or COPY a file that was verified", history::add_url),
    rule("native.history-pipe-shell", Medium, "CIS Docker 4.11", "downloads that go straight into a shell", "verify what is downloaded before it runs", history::pipe_to_shell),
    rule("native.history-chmod-777", Medium, "", "chmod 777 in the build", "give write access to one account or group", history::chmod_777),
];

/// The documentation of all rules, `docs/native-rules.md`.
pub fn documentation() -> String {
    let mut text = "# Rules of the native check\n\n\
        Printed from `src/checks/native/table.rs`; a test compares them. CIS Debian 12 is the CIS Debian Linux 12 Benchmark 1.1.0,\n\
        CIS Docker the CIS Docker Benchmark 1.6.0. Rules marked *on demand* are evaluated when `rulesEnabled` names them, because\n\
        ordinary images of distributions do not pass them; `rulesDisabled` switches any rule off.\n\n\
        | rule | severity | what must not be | what to do | reference |\n|---|---|---|---|---|\n"
        .to_owned();
    for rule in RULES {
        let on_demand = if rule.on_demand { " *(on demand)*" } else { "" };
        let (id, severity, about, remedy) = (rule.id, rule.severity, rule.about, rule.remedy);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{id}`{on_demand} | {severity} | {about} | {remedy} | {} |",
            rule.reference.unwrap_or("-")
        );
    }
    text
}
