//! The table of rules, and how they are evaluated over a merged image.
//!
//! A rule is a small function in the file of its subject. It either does not apply (and then counts neither as
//! evaluated nor as passed) or looks at everything that it is about. Must not decide whether a gate opens.

use super::accounts::{self, Accounts};
use super::error::LayerFault;
use super::layers::text;
use super::layout::ImageConfig;
use super::options::Options;
use super::tree::Tree;
use super::{config, environment, files, packages, path};
use crate::domain::report::{Finding, MAX_FINDINGS, Severity, bounded};

/// What a rule may look at.
pub(super) struct Context<'a> {
    pub tree: &'a Tree,
    pub config: &'a ImageConfig,
    pub options: &'a Options,
    pub accounts: Accounts,
}

impl<'a> Context<'a> {
    pub fn new(tree: &'a Tree, config: &'a ImageConfig, options: &'a Options) -> Result<Self, LayerFault> {
        Ok(Self {
            tree,
            config,
            options,
            accounts: Accounts::read(tree)?,
        })
    }

    /// The content of a file that is kept, links followed inside the image.
    pub fn text(&self, path: &str) -> Result<Option<&'a [u8]>, LayerFault> {
        text(self.tree, path.as_bytes())
    }
}

/// Whether a rule had anything to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applies {
    Yes,
    No,
}

type Evaluate = fn(&Context<'_>, &mut Found<'_>) -> Result<Applies, LayerFault>;

/// One rule.
pub(super) struct Rule {
    pub id: &'static str,
    pub severity: Severity,
    /// Items of the CIS Debian Linux 12 Benchmark 1.1.0 or the CIS Docker Benchmark 1.6.0.
    pub reference: Option<&'static str>,
    pub remedy: &'static str,
    pub evaluate: Evaluate,
}

/// Collects the findings of one rule.
pub(super) struct Found<'a> {
    rule: &'a Rule,
    findings: Vec<Finding>,
}

impl Found<'_> {
    pub fn add(&mut self, subject: &[u8], title: impl Into<String>) {
        self.add_as(self.rule.severity, subject, title);
    }

    /// For the few cases that weigh more or less than their rule.
    pub fn add_as(&mut self, severity: Severity, subject: &[u8], title: impl Into<String>) {
        // One more than a report carries: enough to mark it as cut, and no more memory than that.
        if self.findings.len() <= MAX_FINDINGS {
            self.findings.push(Finding {
                id: self.rule.id.to_owned(),
                severity,
                title: bounded(&title.into()),
                subject: Some(bounded(&show(subject))),
                remedy: Some(self.rule.remedy.to_owned()),
                reference: self.rule.reference.map(str::to_owned),
                ..Finding::default()
            });
        }
    }
}

/// Bytes of the image as text: what is not UTF-8 or is a control character is escaped, so that no two names look alike.
pub(super) fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// What evaluating all rules gave.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub evaluated: u64,
    pub passed: u64,
    pub not_applicable: u64,
    pub findings: Vec<Finding>,
}

pub(super) fn evaluate(context: &Context<'_>) -> Result<Totals, LayerFault> {
    let mut totals = Totals::default();
    for rule in RULES {
        let mut found = Found {
            rule,
            findings: Vec::new(),
        };
        match (rule.evaluate)(context, &mut found)? {
            Applies::No => totals.not_applicable += 1,
            Applies::Yes => {
                totals.evaluated += 1;
                totals.passed += u64::from(found.findings.is_empty());
                totals.findings.append(&mut found.findings);
            }
        }
    }
    Ok(totals)
}

const fn rule(
    id: &'static str,
    severity: Severity,
    reference: Option<&'static str>,
    remedy: &'static str,
    evaluate: Evaluate,
) -> Rule {
    Rule {
        id,
        severity,
        reference,
        remedy,
        evaluate,
    }
}

use Severity::{Critical, High, Low, Medium};

/// Every rule of the native check.
#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    rule("native.world-writable", High, Some("CIS Debian 12 7.1.11"), "chmod o-w the file", files::world_writable),
    rule("native.world-writable-dir", High, Some("CIS Debian 12 7.1.11"), "chmod o-w the directory, or set its sticky bit (chmod +t)", files::world_writable_dir),
    rule("native.suid", Medium, Some("CIS Debian 12 7.1.13"), "chmod ug-s the file, or add its path to suidAllowed", files::suid),
    rule("native.file-capability", Medium, None, "setcap -r the file, or add its path to fileCapabilitiesAllowed", files::file_capability),
    rule("native.unowned", Medium, Some("CIS Debian 12 7.1.12"), "chown the file to an account and a group of the image", files::unowned),
    rule("native.device-node", High, None, "remove the device node; the runtime makes /dev", files::device_node),
    rule("native.private-key", High, None, "remove the private key, replace it everywhere, and mount keys at run time", files::private_key),
    rule("native.extra-uid0", Critical, Some("CIS Debian 12 5.4.2.1"), "remove the account or give it another UID", accounts::extra_uid0),
    rule("native.empty-password", Critical, Some("CIS Debian 12 7.2.2"), "lock the account (passwd -l)", accounts::empty_password),
    rule("native.unshadowed-password", High, Some("CIS Debian 12 7.2.1"), "move the password to /etc/shadow (pwconv)", accounts::unshadowed_password),
    rule("native.account-syntax", Medium, None, "write the line as the format of the file demands", accounts::syntax),
    rule("native.duplicate-uid", Medium, Some("CIS Debian 12 7.2.5"), "give each account its own UID", accounts::duplicate_uid),
    rule("native.duplicate-gid", Medium, Some("CIS Debian 12 7.2.6"), "give each group its own GID", accounts::duplicate_gid),
    rule("native.duplicate-name", Medium, Some("CIS Debian 12 7.2.7, 7.2.8"), "give each account and group its own name", accounts::duplicate_name),
    rule("native.login-shell", Medium, Some("CIS Debian 12 5.4.2.7"), "usermod -s /usr/sbin/nologin the account, or add its name to applicationShellsAllowed", accounts::login_shell),
    rule("native.home-mode", Medium, Some("CIS Debian 12 7.2.9"), "chmod g-w,o-rwx the directory and chown it to the account", accounts::home_mode),
    rule("native.account-file-mode", High, Some("CIS Debian 12 7.1.1 to 7.1.8"), "chown root and chmod 0644 passwd and group, 0640 shadow and gshadow", accounts::file_mode),
    rule("native.root-path", High, Some("CIS Debian 12 5.4.2.5"), "list only absolute directories that root alone can write to", path::root_path),
    rule("native.ld-preload", High, None, "empty /etc/ld.so.preload", environment::ld_preload),
    rule("native.escaping-symlink", Medium, None, "replace the link by the file, or by a relative link inside the image", environment::escaping_symlink),
    rule("native.user", Medium, Some("CIS Docker 4.1"), "set USER to an account other than root", config::user),
    rule("native.env-secret", High, Some("CIS Docker 4.10"), "remove the variable, replace the secret, and mount secrets at run time", config::env_secret),
    rule("native.exposed-port", Low, Some("CIS Docker 5.8, 5.9"), "expose a port above 1023, and no remote login", config::exposed_port),
    rule("native.os-unknown", Medium, None, "restore /etc/os-release, by which scanners choose their data", packages::os_unknown),
];
