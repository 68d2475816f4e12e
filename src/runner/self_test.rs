//! `runner self-test`: lets a tool examine its known-bad fixture exactly as it examines a candidate.
//!
//! Must not judge: it delivers what the tool found, and `domain::self_test` knows what that has to be. The fixtures are
//! made here and not shipped as images, so that nobody can exchange them.

use super::{
    check::{Common, Examined},
    kinds::{self, Bench},
};
use repave_core::{
    digest::Digest,
    report::{Report, Tool, ToolName},
    self_test,
};
use std::path::PathBuf;

/// `repave runner self-test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Which tool.
    #[arg(long, value_parser = tool)]
    tool: ToolName,
    /// The folder with the vulnerability database.
    #[arg(long)]
    database: Option<PathBuf>,
    /// What the report calls the database.
    #[arg(long)]
    database_id: Option<Digest>,
    /// The folder with Goss, its loader and its libraries.
    #[arg(long, default_value = "/opt/goss")]
    goss: PathBuf,
}

/// A tool that has a self-test, by its word.
fn tool(word: &str) -> Result<ToolName, String> {
    let tool = ToolName::of_word(word).filter(|tool| self_test::exists(*tool));
    tool.ok_or_else(|| {
        let tools = ToolName::ALL.iter().filter(|tool| self_test::exists(**tool));
        let words: Vec<&str> = tools.map(|tool| tool.facts().word).collect();
        format!("expected one of {}", words.join(", "))
    })
}

/// Runs the self-test.
pub async fn run(args: &Args) -> Examined {
    let scratch = match args.common.scratch("self-test") {
        Ok(scratch) => scratch,
        Err(error) => return failed(args, &error.to_string()),
    };
    let bench = Bench {
        common: &args.common,
        scratch: scratch.path(),
        goss: &args.goss,
        database: args.database.as_deref(),
        database_id: args.database_id.as_ref(),
    };
    let examined = Box::pin(kinds::self_test(args.tool, &bench)).await;
    let mut examined = examined.unwrap_or_else(|why| failed(args, &why));
    examined.report.image = args.common.image.clone();
    examined.attached.clear();
    examined.report.attachments.clear();
    examined
}

fn failed(args: &Args, why: &str) -> Examined {
    let tool = Tool::new(args.tool, "");
    Examined {
        report: Report::error(&args.common.check, &args.common.image, tool, why),
        ended: None,
        attached: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::path::Path;

    #[derive(Debug, Parser)]
    #[command(no_binary_name = true)]
    struct Words {
        #[command(flatten)]
        args: Args,
    }

    fn args(work: &Path, more: &[&str]) -> Args {
        let subject = self_test::subject();
        let work = work.to_str().unwrap();
        let words = ["--check", self_test::CHECK, "--image", subject.as_str(), "--work", work];
        Words::parse_from(words.iter().chain(more)).args
    }

    #[tokio::test]
    async fn our_own_rules_reject_the_known_bad_image() {
        let work = tempfile::tempdir().unwrap();
        let examined = run(&args(work.path(), &["--tool", "native"])).await;
        assert_eq!(self_test::judge(&examined.report), Ok(()), "{:?}", examined.report);
        assert_eq!(examined.report.image, self_test::subject());
    }

    #[tokio::test]
    async fn a_tool_that_is_missing_is_not_believed() {
        let work = tempfile::tempdir().unwrap();
        let nowhere = work.path().join("nowhere");
        let database = ["--tool", "grype", "--database", nowhere.to_str().unwrap()];
        for more in [&["--tool", "goss", "--goss", nowhere.to_str().unwrap()][..], &database] {
            let examined = run(&args(work.path(), more)).await;
            assert!(self_test::judge(&examined.report).is_err(), "{more:?}");
        }
    }
}
