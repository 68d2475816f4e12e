//! Which fields the variables of a rule have, and that an expression asks for no others. Pure.
//!
//! Must not let a field through that it does not know: `!has(previous.x)` is true for ever when there is no `x`, and such a
//! rule keeps nothing out. Only `checks` has free keys, the names of checks: which there are is not known here, so it is told which
//! ones the expression counts on.

use super::{InvalidExpression, Severity};
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};
use std::collections::BTreeSet;

/// Longest name that is shown, in characters.
const MAX_NAME: usize = 60;

/// The variables of a rule.
const VARIABLES: [(&str, Kind); 3] = [
    ("checks", Kind::Checks),
    ("image", Kind::Image),
    ("previous", Kind::Previous),
];

/// The names of types, for `type(x) == int`.
const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// What a part of an expression is, as far as its fields go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// `checks`: any name is a check.
    Checks,
    /// One check.
    Check,
    /// The findings of a check that count, by severity.
    Failed,
    /// `image`.
    Image,
    /// `previous`.
    Previous,
    /// A number, a text, true or false.
    Plain,
    /// A list of these.
    List(Box<Kind>),
    /// What is in an empty list.
    Nothing,
    /// It cannot be told before it runs.
    Open,
}

impl Kind {
    /// How it is called in a message, and its fields.
    fn fields(&self) -> Option<(&'static str, Vec<&'static str>)> {
        match self {
            Self::Check => {
                let names = [
                    "verdict",
                    "evaluated",
                    "passed",
                    "failed",
                    "waived",
                    "suppressed",
                    "database_age_hours",
                ];
                Some(("a check", names.to_vec()))
            }
            Self::Failed => Some(("failed", Severity::ALL.map(Severity::as_str).to_vec())),
            Self::Image => Some(("image", vec!["digest"])),
            Self::Previous => Some(("previous", vec!["introduced", "fixed"])),
            Self::Checks | Self::Plain | Self::List(_) | Self::Nothing | Self::Open => None,
        }
    }

    /// What the field of that name is.
    fn field(&self, name: &str) -> Result<Self, InvalidExpression> {
        if *self == Self::Checks {
            return Ok(Self::Check);
        }
        let Some((of, known)) = self.fields() else {
            return Err(InvalidExpression::NoFields { found: cut(name) });
        };
        if !known.contains(&name) {
            return Err(InvalidExpression::Field {
                of,
                expected: known.join(", "),
                found: cut(name),
            });
        }
        let is_failed = *self == Self::Check && name == "failed";
        Ok(if is_failed { Self::Failed } else { Self::Plain })
    }

    /// What `self[index]` is. A key that is no plain text is looked up when it runs, and is an error if it is not there.
    fn at(&self, index: &IdedExpr) -> Result<Self, InvalidExpression> {
        match (self, text_of(index)) {
            (Self::Checks, _) => Ok(Self::Check),
            (Self::List(item), _) => Ok(item.as_ref().clone()),
            (_, Some(name)) => self.field(name),
            (_, None) => Ok(Self::Open),
        }
    }

    /// What `name in self` asks for. Of a name that is not there it would be false, and no error.
    fn looked_for(&self, name: &IdedExpr) -> Result<(), InvalidExpression> {
        if self.fields().is_none() {
            return Ok(());
        }
        let found = text_of(name).ok_or_else(|| InvalidExpression::NoFields { found: "in".to_owned() })?;
        self.field(found).map(drop)
    }

    /// What a loop over it gives.
    fn item(&self) -> Self {
        match self {
            Self::List(item) => item.as_ref().clone(),
            Self::Checks | Self::Check | Self::Failed | Self::Image | Self::Previous => Self::Plain,
            Self::Plain | Self::Nothing | Self::Open => Self::Open,
        }
    }

    /// What may be the one or the other.
    fn or(self, other: Self) -> Self {
        if self == other || other == Self::Nothing {
            return self;
        }
        if self == Self::Nothing {
            return other;
        }
        if let (Self::List(one), Self::List(other)) = (self, other) {
            return Self::List(Box::new(one.or(*other)));
        }
        Self::Open
    }
}

/// Refuses names that no variable has. Gives the names of the checks that it counts on: those that it asks about without asking
/// anywhere whether they are there.
pub(super) fn check(expression: &IdedExpr) -> Result<BTreeSet<String>, InvalidExpression> {
    let mut scope = Scope::default();
    scope.kind(expression)?;
    let Scope {
        mut asked, looked_for, ..
    } = scope;
    asked.retain(|name| !looked_for.contains(name));
    Ok(asked)
}

/// What is known at a part, and what was asked before it.
#[derive(Default)]
struct Scope {
    /// The variables of the loops around it, the innermost one last.
    loops: Vec<(String, Kind)>,
    /// The checks that are asked about by name.
    asked: BTreeSet<String>,
    /// The checks of which is asked whether they are there.
    looked_for: BTreeSet<String>,
}

impl Scope {
    /// What a part is. Recurses no deeper than what `Size` let through.
    fn kind(&mut self, part: &IdedExpr) -> Result<Kind, InvalidExpression> {
        match &part.expr {
            Expr::Ident(name) => self.variable(name),
            Expr::Literal(_) => Ok(Kind::Plain),
            Expr::Select(select) => {
                let of = self.kind(&select.operand)?;
                if of == Kind::Checks {
                    // `has(checks.x)` is `checks.x` with a sign.
                    self.names(select.test, &select.field);
                }
                of.field(&select.field)
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let items = list.elements.iter().map(|item| self.kind(item));
                let items = items.collect::<Result<Vec<_>, _>>()?;
                Ok(Kind::List(Box::new(items.into_iter().fold(Kind::Nothing, Kind::or))))
            }
            Expr::Comprehension(of) => self.comprehension(of),
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => Err(InvalidExpression::Construct),
        }
    }

    /// A check is named: to ask whether it is there, or for its result.
    fn names(&mut self, whether: bool, check: &str) {
        let names = if whether { &mut self.looked_for } else { &mut self.asked };
        names.insert(check.to_owned());
    }

    fn variable(&self, name: &str) -> Result<Kind, InvalidExpression> {
        // With a dot before it no variable of a loop is meant.
        let (outer, name) = name.strip_prefix('.').map_or((false, name), |name| (true, name));
        let inner = self.loops.iter().rev().find(|(known, _)| !outer && known == name);
        if let Some((_, kind)) = inner {
            return Ok(kind.clone());
        }
        if TYPES.contains(&name) {
            return Ok(Kind::Plain);
        }
        let known = VARIABLES.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, kind)| kind).ok_or_else(|| InvalidExpression::Variable {
            expected: VARIABLES.map(|(name, _)| name).join(", "),
            found: cut(name),
        })
    }

    fn call(&mut self, call: &CallExpr) -> Result<Kind, InvalidExpression> {
        if let Some(target) = &call.target {
            self.kind(target)?;
        }
        let kinds = call.args.iter().map(|part| self.kind(part));
        let kinds = kinds.collect::<Result<Vec<_>, _>>()?;
        self.note(call, &kinds);
        match (call.func_name.as_str(), kinds.as_slice(), call.args.as_slice()) {
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [of, _], [_, index]) => of.at(index),
            (operators::IN, [_, of], [name, _]) => of.looked_for(name).map(|()| Kind::Plain),
            (operators::CONDITIONAL, [_, one, other], _) | (operators::ADD, [one, other], _) => {
                Ok(one.clone().or(other.clone()))
            }
            ("dyn", [same], _) => Ok(same.clone()),
            _ => Ok(Kind::Open),
        }
    }

    /// Keeps the name in `checks['x']`, `checks[?'x']`, `checks.?x` and `'x' in checks`.
    fn note(&mut self, call: &CallExpr, kinds: &[Kind]) {
        let (name, whether) = match (call.func_name.as_str(), kinds, call.args.as_slice()) {
            (operators::INDEX, [Kind::Checks, _], [_, name]) => (name, false),
            (operators::OPT_INDEX | operators::OPT_SELECT, [Kind::Checks, _], [_, name])
            | (operators::IN, [_, Kind::Checks], [name, _]) => (name, true),
            _ => return,
        };
        if let Some(name) = text_of(name) {
            self.names(whether, name);
        }
    }

    fn comprehension(&mut self, of: &ComprehensionExpr) -> Result<Kind, InvalidExpression> {
        let range = self.kind(&of.iter_range)?;
        let start = self.kind(&of.accu_init)?;
        let outside = self.loops.len();
        self.loops.push((of.accu_var.clone(), start.clone()));
        self.loops.push((of.iter_var.clone(), range.item()));
        if let Some(second) = &of.iter_var2 {
            self.loops.push((second.clone(), Kind::Open));
        }
        self.kind(&of.loop_cond)?;
        let grown = self.kind(&of.loop_step)?;
        self.loops.push((of.accu_var.clone(), start.or(grown)));
        let result = self.kind(&of.result);
        self.loops.truncate(outside);
        result
    }
}

fn text_of(part: &IdedExpr) -> Option<&str> {
    if let Expr::Literal(LiteralValue::String(text)) = &part.expr {
        Some(text.inner())
    } else {
        None
    }
}

pub(super) fn cut(name: &str) -> String {
    crate::report::bounded(name).chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests;
