//! What an expression asks about, for those who have some of the results only. Pure.
//!
//! Must not leave anything out: a rule is judged without what it does not ask for.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use std::collections::BTreeSet;

/// What an expression asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The checks, by the names that it uses; `None` where it may ask about any of them (`checks.all(…)`).
    pub checks: Option<BTreeSet<String>>,
    /// Whether it asks about the release before.
    pub previous: bool,
}

impl Needs {
    /// What this expression asks about.
    pub(super) fn of(expression: &IdedExpr) -> Self {
        let mut needs = Self {
            checks: Some(BTreeSet::new()),
            previous: false,
        };
        needs.add(expression);
        needs
    }

    /// Adds a part and all in it. Recurses no deeper than `MAX_DEPTH`: deeper ones were refused.
    fn add(&mut self, part: &IdedExpr) {
        match &part.expr {
            Expr::Ident(name) => match variable(name) {
                "checks" => self.checks = None,
                "previous" => self.previous = true,
                _ => {}
            },
            Expr::Select(select) if is_checks(&select.operand) => self.check(&select.field),
            Expr::Select(select) => self.add(&select.operand),
            Expr::Call(call) => match indexed(call) {
                Some(name) => self.check(name),
                None => self.all(call.target.iter().map(AsRef::as_ref).chain(&call.args)),
            },
            Expr::List(list) => self.all(&list.elements),
            Expr::Comprehension(of) => {
                self.all([&of.iter_range, &of.accu_init, &of.loop_cond, &of.loop_step, &of.result]);
            }
            // Refused when the expression was read.
            Expr::Map(_) | Expr::Struct(_) => self.checks = None,
            Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn all<'a>(&mut self, parts: impl IntoIterator<Item = &'a IdedExpr>) {
        for part in parts {
            self.add(part);
        }
    }

    fn check(&mut self, name: &str) {
        if let Some(checks) = &mut self.checks {
            checks.insert(name.to_owned());
        }
    }
}

/// With a dot before it a name is that of a variable all the same.
fn variable(name: &str) -> &str {
    name.strip_prefix('.').unwrap_or(name)
}

fn is_checks(part: &IdedExpr) -> bool {
    matches!(&part.expr, Expr::Ident(name) if variable(name) == "checks")
}

/// The name in `checks['name']`.
fn indexed(call: &CallExpr) -> Option<&str> {
    let [list, index] = call.args.as_slice() else {
        return None;
    };
    match &index.expr {
        Expr::Literal(LiteralValue::String(name)) if call.func_name == operators::INDEX && is_checks(list) => {
            Some(name.inner())
        }
        _ => None,
    }
}
