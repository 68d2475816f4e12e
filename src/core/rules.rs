//! Conditions over the results of all checks, in CEL: reads an expression, and evaluates it. Pure.
//!
//! An expression is written by people and evaluated in the operator, so what it may cost is bounded before anything runs:
//! length, depth and size of the expression, how many macros (`all`, `exists`, `map`, …) it has, since they are the
//! only loops, and how large its values can become. Nothing is printed whole. Whatever is not `true` is not a pass: an error, a number and an unknown name least of all. A name that no
//! variable has is refused when the expression is read: `has()` of it would be false for ever.

mod fields;
mod growth;
mod needs;
pub use needs::Needs;

use super::report::Severity;
use cel::{
    Context, Program,
    common::ast::{Expr, IdedExpr},
    objects::{Key, Map, Value},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::{self, Write as _},
    sync::Arc,
};

/// Longest expression, in bytes: the limit of the schema.
pub const MAX_LENGTH: usize = 1024;
/// Most macros of one expression; each may multiply the work by the size of a list.
const MAX_MACROS: usize = 3;
/// Deepest nesting.
const MAX_DEPTH: usize = 48;
/// Deepest brackets and prefix operators, told before the parser sees them: it recurses.
const MAX_BRACKETS: usize = 16;
/// Most punctuation characters: told before the parser sees them, for the same reason.
const MAX_PUNCTUATION: usize = 160;
/// Stack of the thread that parses and evaluates, in bytes; only what is touched is used.
const STACK: usize = 64 << 20;
/// Most parts of one expression, those that macros expand to included.
const MAX_PARTS: usize = 400;
/// Longest part of a message that comes from an expression or the evaluator, in characters.
const MAX_MESSAGE: usize = 200;

/// Longest list of names of checks in a message, in characters.
const MAX_NAMES: usize = 600;

/// An expression that was read.
pub struct Expression {
    program: Program,
    /// The checks that it counts on by name.
    counts_on: BTreeSet<String>,
}

// The tree inside is deep: printing it recurses with large frames.
impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expression")
    }
}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExpression {
    /// It is longer than it may be.
    #[error("expected an expression of at most {MAX_LENGTH} bytes, found {0}")]
    Length(usize),
    /// It has characters that CEL has no use for outside of texts.
    #[error("expected printable ASCII only, found {0:?}: names of checks and severities are plain words")]
    Characters(char),
    /// It is nested too deep.
    #[error("expected brackets and prefixes at most {MAX_BRACKETS} deep: split it into several rules")]
    Brackets,
    /// It is not CEL.
    #[error("expected a CEL expression such as checks.cves.failed.critical == 0: {0}")]
    Syntax(String),
    /// It is too large or too deep.
    #[error(
        "expected at most {MAX_PARTS} parts, {MAX_DEPTH} deep, after macros are expanded: split it into several rules"
    )]
    Size,
    /// It has more loops than it may.
    #[error(
        "expected at most {MAX_MACROS} of all, exists, exists_one, map and filter, found more: split it into several rules"
    )]
    Macros,
    /// Its values could become too large.
    #[error(
        "expected texts and lists of at most {} KiB, found + or loops that could make larger ones: compare the results themselves, \
         or split it into several rules",
        growth::MAX_BYTES >> 10
    )]
    Growth,
    /// It calls a function that there is not.
    #[error("expected a function of CEL such as size, startsWith or has, found {found:?}: correct the name")]
    Function {
        /// The name, cut.
        found: String,
    },
    /// It makes maps or messages.
    #[error("expected no map or message to be made ({{…}}): compare the results themselves")]
    Construct,
    /// It asks for a variable that there is not.
    #[error("expected one of the variables {expected}, found {found:?}: correct the name")]
    Variable {
        /// The variables.
        expected: String,
        /// The name, cut.
        found: String,
    },
    /// It asks for a field that there is not.
    #[error("{of} has no such field: expected one of {expected}, found {found:?}")]
    Field {
        /// What is asked.
        of: &'static str,
        /// Its fields.
        expected: String,
        /// The name, cut.
        found: String,
    },
    /// It counts on a check that there is not.
    #[error(
        "expected one of the checks {expected}, found {found:?}: correct the name, or ask whether it is there \
         (has(checks.NAME), 'NAME' in checks)"
    )]
    Check {
        /// The checks, cut.
        expected: String,
        /// The name, cut.
        found: String,
    },
    /// It asks for a field of what has none, or may be anything.
    #[error("expected a field of checks.NAME, image or previous, found {found:?} of a value that has no known fields")]
    NoFields {
        /// The name, cut.
        found: String,
    },
}

impl InvalidExpression {
    /// It counts on the check `found`, and there are only these.
    pub fn unknown_check<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        Self::Check {
            expected: known.join(", ").chars().take(MAX_NAMES).collect(),
            found: fields::cut(found),
        }
    }
}

impl Expression {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, InvalidExpression> {
        if text.len() > MAX_LENGTH {
            return Err(InvalidExpression::Length(text.len()));
        }
        if let Some(odd) = text.chars().find(|c| !matches!(c, ' '..='~' | '\n' | '\r' | '\t')) {
            return Err(InvalidExpression::Characters(odd));
        }
        if deepest(text) > MAX_BRACKETS {
            return Err(InvalidExpression::Brackets);
        }
        if text.contains(['{', '`']) {
            return Err(InvalidExpression::Construct);
        }
        if text.chars().filter(char::is_ascii_punctuation).count() > MAX_PUNCTUATION {
            return Err(InvalidExpression::Size);
        }
        let read = || {
            let program = Program::compile(text);
            let program = program.map_err(|error| InvalidExpression::Syntax(one_line(&error.to_string())))?;
            Size::default().add(program.expression(), 0)?;
            let counts_on = fields::check(program.expression())?;
            growth::check(program.expression())?;
            Ok(Self { program, counts_on })
        };
        on_large_stack(read).map_err(InvalidExpression::Syntax)?
    }

    /// The checks that it asks about by name, without asking whether they are there. Of one that is not there it has no answer.
    pub fn counts_on(&self) -> impl Iterator<Item = &str> {
        self.counts_on.iter().map(String::as_str)
    }

    /// What it asks about, at most: for those who have some of the results only.
    pub fn needs(&self) -> Result<Needs, String> {
        on_large_stack(|| Needs::of(self.program.expression()))
    }

    /// Whether it is true of these results; otherwise why it has no answer.
    pub fn holds(&self, results: &Results) -> Result<bool, String> {
        if !growth::fits(results) {
            return Err("there are more results, or longer names of them, than a rule may ask about".to_owned());
        }
        on_large_stack(|| {
            let mut context = Context::default();
            for (name, value) in results.variables() {
                context.add_variable_from_value(name, value);
            }
            match self.program.execute(&context) {
                Ok(Value::Bool(answer)) => Ok(answer),
                Ok(other) => Err(format!(
                    "expected true or false, found a value of type {}",
                    other.type_of()
                )),
                Err(error) => Err(one_line(&error)),
            }
        })?
    }
}

/// Parser and evaluator recurse with large frames: they get a stack that fits what the limits above let through.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| format!("no thread to evaluate it: {error}"))?;
        thread.join().map_err(|_| "the evaluator failed".to_owned())
    })
}

/// The deepest that brackets and runs of prefix operators go.
fn deepest(text: &str) -> usize {
    let (mut open, mut prefixes, mut deepest) = (0_usize, 0_usize, 0_usize);
    for c in text.chars() {
        match c {
            '(' | '[' => open += 1,
            ')' | ']' => open = open.saturating_sub(1),
            '!' | '-' | '?' => prefixes += 1,
            _ if c.is_ascii_alphanumeric() => prefixes = 0,
            _ => {}
        }
        deepest = deepest.max(open + prefixes);
    }
    deepest
}

/// What an expression may cost.
#[derive(Debug, Default)]
struct Size {
    parts: usize,
    macros: usize,
}

impl Size {
    /// Counts a part and all in it. Recurses no deeper than [`MAX_DEPTH`].
    fn add(&mut self, part: &IdedExpr, depth: usize) -> Result<(), InvalidExpression> {
        self.parts += 1;
        if self.parts > MAX_PARTS || depth > MAX_DEPTH {
            return Err(InvalidExpression::Size);
        }
        match &part.expr {
            Expr::Ident(_) | Expr::Literal(_) => Ok(()),
            Expr::Call(call) => self.all(call.target.iter().map(AsRef::as_ref).chain(&call.args), depth),
            Expr::List(list) => self.all(&list.elements, depth),
            Expr::Select(select) => self.add(&select.operand, depth + 1),
            Expr::Comprehension(of) => {
                self.macros += 1;
                if self.macros > MAX_MACROS {
                    return Err(InvalidExpression::Macros);
                }
                let parts = [&of.iter_range, &of.accu_init, &of.loop_cond, &of.loop_step, &of.result];
                self.all(parts, depth)
            }
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => Err(InvalidExpression::Construct),
        }
    }

    fn all<'a>(
        &mut self,
        parts: impl IntoIterator<Item = &'a IdedExpr>,
        depth: usize,
    ) -> Result<(), InvalidExpression> {
        parts.into_iter().try_for_each(|part| self.add(part, depth + 1))
    }
}

/// The beginning of what it says. An error of the evaluator prints the values that it is about: what comes after the beginning is
/// never written.
fn one_line(said: &dyn fmt::Display) -> String {
    let mut start = Start::default();
    // An error is the end of the space.
    let _ = write!(start, "{said}");
    let words = start.0.split_whitespace().collect::<Vec<_>>().join(" ");
    super::report::bounded(&words).chars().take(MAX_MESSAGE).collect()
}

/// Takes a few characters more than a message has, and then no more.
#[derive(Default)]
struct Start(String);

impl fmt::Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = (2 * MAX_MESSAGE).saturating_sub(self.0.chars().count());
        self.0.extend(text.chars().take(left));
        if text.chars().nth(left).is_some() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

/// What a rule may ask about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// `checks`, by name.
    pub checks: BTreeMap<String, CheckResult>,
    /// `image.digest`.
    pub image: String,
    /// `previous.introduced` and `previous.fixed`; None without a release before, or where it could not be read.
    pub previous: Option<Changes>,
}

/// What became of one check.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckResult {
    /// `verdict`: Passed, Failed, …
    pub verdict: String,
    /// `evaluated`.
    pub evaluated: u64,
    /// `passed`.
    pub passed: u64,
    /// `failed.critical` to `failed.unknown`: the findings that count.
    pub failed: BTreeMap<Severity, u32>,
    /// `waived`.
    pub waived: u32,
    /// `suppressed`, by VEX.
    pub suppressed: u32,
    /// `database_age_hours`, where there is a database.
    pub database_age_hours: Option<i64>,
}

/// What changed since the release before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Findings that are new.
    pub introduced: u64,
    /// Findings that are gone.
    pub fixed: u64,
}

impl Results {
    fn variables(&self) -> [(&'static str, Value); 3] {
        let checks = self.checks.iter().map(|(name, check)| (name.as_str(), check.value()));
        let previous = self.previous.map_or_else(Vec::new, |changes| {
            vec![
                ("introduced", number(changes.introduced)),
                ("fixed", number(changes.fixed)),
            ]
        });
        [
            ("checks", map(checks)),
            ("image", map([("digest", text(&self.image))])),
            ("previous", map(previous)),
        ]
    }
}

impl CheckResult {
    fn value(&self) -> Value {
        let failed = Severity::ALL.map(|severity| {
            let count = self.failed.get(&severity).copied().unwrap_or(0);
            (severity.as_str(), number(count.into()))
        });
        let mut fields = vec![
            ("verdict", text(&self.verdict)),
            ("evaluated", number(self.evaluated)),
            ("passed", number(self.passed)),
            ("failed", map(failed)),
            ("waived", number(self.waived.into())),
            ("suppressed", number(self.suppressed.into())),
        ];
        fields.extend(
            self.database_age_hours
                .map(|hours| ("database_age_hours", Value::Int(hours))),
        );
        map(fields)
    }
}

fn map<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let fields = fields
        .into_iter()
        .map(|(name, value)| (Key::String(Arc::new(name.to_owned())), value));
    Value::Map(Map {
        map: Arc::new(fields.collect::<HashMap<_, _>>()),
    })
}

fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

fn number(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
