//! The Containerfile of a build: what Repave writes around the user's instructions, and the rules for those.
//!
//! Must not execute or expand anything: the instructions are parsed, never run, here.

use super::image_ref::ImageRef;
use parse_dockerfile::Instruction;
use std::fmt::Write as _;

/// What goes into a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs<'a> {
    /// The verified upstream image, with its digest.
    pub from: &'a ImageRef,
    /// How many certificates the build context holds, as `ca-0.crt`, `ca-1.crt`, …
    pub ca_certificates: usize,
    /// Accounts to remove.
    pub remove_users: &'a [String],
    /// The user's instructions, without FROM.
    pub instructions: &'a str,
}

/// A rule of the build configuration that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Stable id, e.g. `build.user`.
    pub rule: &'static str,
    /// What was found and what to write instead.
    pub message: String,
}

/// The whole Containerfile. Root does the work; the user's instructions come last and decide the final USER.
pub fn render(inputs: &Inputs<'_>) -> String {
    let mut text = format!("FROM {}\nUSER 0\n", inputs.from);
    for n in 0..inputs.ca_certificates {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "COPY --chown=0:0 --chmod=0644 ca-{n}.crt /usr/local/share/ca-certificates/repave-{n}.crt"
        );
    }
    if inputs.ca_certificates > 0 {
        text.push_str("RUN update-ca-certificates\n");
    }
    if !inputs.remove_users.is_empty() {
        // The schema allows only account names here, so nothing needs quoting. Files, not userdel: it may be missing.
        let names = inputs.remove_users.join("|");
        let _ = writeln!(
            text,
            "RUN sed -i -E '/^({names}):/d' /etc/passwd /etc/shadow /etc/group /etc/gshadow"
        );
        text.push_str("RUN rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow-\n");
    }
    text.push_str(inputs.instructions);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Checks the user's instructions before anything is built.
pub fn violations(instructions: &str) -> Vec<Violation> {
    let whole = format!("FROM scratch\n{instructions}\n");
    let parsed = match parse_dockerfile::parse(&whole) {
        Ok(parsed) => parsed,
        Err(error) => {
            let message = format!("the instructions cannot be parsed: {error}");
            return vec![Violation {
                rule: "build.syntax",
                message,
            }];
        }
    };
    let mut found = Vec::new();
    let mut user: Option<String> = None;
    for (n, instruction) in parsed.instructions.iter().enumerate() {
        match instruction {
            Instruction::From(_) if n > 0 => found.push(Violation {
                rule: "build.from",
                message: "FROM is not allowed: Repave writes it with the verified digest".into(),
            }),
            Instruction::User(it) => user = Some(it.arguments.value.trim().to_owned()),
            Instruction::Add(it) => found.extend(it.src.iter().filter_map(remote_source)),
            Instruction::Run(it) => found.extend(piped_download(it)),
            _ => {}
        }
    }
    found.extend(user_violation(user.as_deref()));
    found
}

fn remote_source(source: &parse_dockerfile::Source<'_>) -> Option<Violation> {
    let parse_dockerfile::Source::Path(path) = source else {
        return None;
    };
    let remote = ["http://", "https://", "git@", "git://"]
        .iter()
        .any(|scheme| path.value.starts_with(scheme));
    remote.then(|| Violation {
        rule: "build.add-remote",
        message: format!(
            "ADD {} fetches something without a digest: put the file into the build context",
            path.value
        ),
    })
}

fn piped_download(run: &parse_dockerfile::RunInstruction<'_>) -> Option<Violation> {
    let mut script = match &run.arguments {
        parse_dockerfile::Command::Shell(line) => line.value.to_owned(),
        parse_dockerfile::Command::Exec(words) => words
            .value
            .iter()
            .map(|word| word.value.as_ref())
            .collect::<Vec<_>>()
            .join(" "),
        // A form that a later parser knows and we do not: judged by its debug text rather than let through unread.
        other => format!("{other:?}"),
    };
    for document in &run.here_docs {
        script.push_str(&document.value);
    }
    let downloads = script.contains("curl ") || script.contains("wget ");
    let runs = ["| sh", "|sh", "| bash", "|bash"]
        .iter()
        .any(|pipe| script.contains(pipe));
    (downloads && runs).then(|| Violation {
        rule: "build.pipe-to-shell",
        message: "RUN pipes a download into a shell: download it with a known sha256, then run it".into(),
    })
}

fn user_violation(user: Option<&str>) -> Option<Violation> {
    let message = match user {
        None => {
            "the image would run as root: end the instructions with USER and a number, for example USER 65532".into()
        }
        Some(user) => {
            let name = user.split(':').next().unwrap_or(user);
            if name != "0" && !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            format!(
                "USER {user:?} is root or not a number (Kubernetes cannot prove a name to be non-root): write USER 65532"
            )
        }
    };
    Some(Violation {
        rule: "build.user",
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_file_is_pinned_to_the_verified_digest() {
        let from: ImageRef = format!("registry.local:5000/staging/debian@sha256:{}", "a".repeat(64))
            .parse()
            .unwrap();
        let users = ["games".to_owned(), "news".to_owned()];
        let inputs = Inputs {
            from: &from,
            ca_certificates: 1,
            remove_users: &users,
            instructions: "USER 65532",
        };
        insta::assert_snapshot!(render(&inputs));
    }

    #[test]
    fn each_rule_names_what_to_write_instead() {
        for (instructions, rules) in [
            ("USER 65532", vec![]),
            ("RUN chmod 0750 /opt\nUSER 65532:65532", vec![]),
            ("RUN true", vec!["build.user"]),
            ("USER root", vec!["build.user"]),
            ("USER 0", vec!["build.user"]),
            ("USER 65532\nUSER 0:0", vec!["build.user"]),
            ("FROM evil\nUSER 1", vec!["build.from"]),
            ("ADD https://example.com/x /x\nUSER 1", vec!["build.add-remote"]),
            (
                "RUN curl -s https://example.com | sh\nUSER 1",
                vec!["build.pipe-to-shell"],
            ),
            ("RUN curl x \\\n  | bash\nUSER 1", vec!["build.pipe-to-shell"]),
            ("NONSENSE\nUSER 1", vec!["build.syntax"]),
        ] {
            let found: Vec<_> = violations(instructions).iter().map(|v| v.rule).collect();
            assert_eq!(found, rules, "{instructions}");
        }
    }
}
