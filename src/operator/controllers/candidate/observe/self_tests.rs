//! Whether the tools of a candidate's checks are believed: their self-tests, from memory or from their Jobs.

use super::{Error, JobState, PlannedCheck};
use crate::{
    controllers::{candidate::jobs, context::Context},
    domain::{digest::Digest, image_ref::ImageRef, self_test, tool::ToolName},
};

/// The self-test of one tool with one database.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTest {
    /// The tool.
    pub tool: ToolName,
    /// Its database, by digest.
    pub database: Option<ImageRef>,
    /// How it stands.
    pub state: SelfTestState,
}

/// How a self-test stands.
#[derive(Debug, Clone, PartialEq)]
pub enum SelfTestState {
    /// It found what it had to.
    Yes,
    /// It did not, or cannot be carried out: nothing of this tool counts.
    No(String),
    /// Its Job.
    NotYet(JobState<()>),
}

impl SelfTest {
    /// What names it.
    pub fn key(&self, tools: &ImageRef) -> Digest {
        self_test::key(self.tool, tools, self.database.as_ref())
    }

    /// Whether results of this check wait for it.
    pub fn covers(&self, check: &PlannedCheck) -> bool {
        self.tool == check.tool && self.database == check.database
    }
}

/// The self-tests of all tools that these checks use, each once.
pub async fn observe(checks: &[&PlannedCheck], ctx: &Context) -> Result<Vec<SelfTest>, Error> {
    let mut tests: Vec<SelfTest> = Vec::new();
    for check in checks.iter().filter(|check| self_test::exists(check.tool)) {
        if tests.iter().any(|test| test.covers(check)) {
            continue;
        }
        let mut test = SelfTest {
            tool: check.tool,
            database: check.database.clone(),
            state: SelfTestState::Yes,
        };
        test.state = state(&test, ctx).await?;
        tests.push(test);
    }
    Ok(tests)
}

async fn state(test: &SelfTest, ctx: &Context) -> Result<SelfTestState, Error> {
    let key = test.key(&ctx.settings.tools_image);
    if let Some(outcome) = ctx.self_tests.known(&key) {
        return Ok(outcome.map_or_else(SelfTestState::No, |()| SelfTestState::Yes));
    }
    let tool = test.tool;
    let job = super::self_test_job(ctx, test, &jobs::self_test_name(&key), move |log, termination| {
        super::read_report(self_test::CHECK, tool, &self_test::subject(), log, termination)
    })
    .await?;
    Ok(match job {
        JobState::Delivered(delivery) => {
            let outcome = self_test::judge(&delivery.report);
            ctx.self_tests.remember(key, outcome.clone());
            ctx.metrics.self_test_failed(ctx.self_tests.any_refused());
            outcome.map_or_else(SelfTestState::No, |()| SelfTestState::Yes)
        }
        JobState::Broken { attempt, message } if attempt >= super::MAX_ATTEMPTS => {
            SelfTestState::No(format!("the self-test of {tool:?} could not be carried out: {message}"))
        }
        JobState::Broken { attempt, message } => SelfTestState::NotYet(JobState::Broken { attempt, message }),
        JobState::Absent(attempt) => SelfTestState::NotYet(JobState::Absent(attempt)),
        JobState::Running(what) => SelfTestState::NotYet(JobState::Running(what)),
        JobState::Foreign(why) => SelfTestState::NotYet(JobState::Foreign(why)),
    })
}
