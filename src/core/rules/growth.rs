//! How large the values of an expression can become, told before it runs. Pure.
//!
//! Three loops in 1024 bytes of text can multiply a value 59 000 times, so an upper bound of every value is computed from the
//! expression and from what results are allowed to be ([`fits`]); one over the limit is refused. Must not let a function through
//! whose result has no known bound.

use super::{InvalidExpression, Results, fields::cut};
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};

/// Largest value, in bytes as they are counted here: some of them are there at the same time.
pub(super) const MAX_BYTES: u64 = 2 << 20;
/// Most checks that a rule is asked about: those of the policies of one BaseImage, and its own ones under both names, are fewer.
const MAX_CHECKS: u64 = 128;
/// Most bytes of the texts of one check: its name and its verdict.
const MAX_CHECK_TEXTS: u64 = 1024;
/// What any value costs, whatever it is.
const VALUE: u64 = 128;
/// One check: its texts, and two maps of less than 20 names and numbers.
const CHECK: u64 = MAX_CHECK_TEXTS + 20 * VALUE;
/// Longest text of a number; a `double` is written without an exponent.
const NUMBER: u64 = 512;
/// More than any value that is let through: how much of it a loop gives on tells how a loop grows.
const PROBE: u64 = 1 << 40;

/// Whether results are no more than what the bounds of expressions count on.
pub(super) fn fits(results: &Results) -> bool {
    let is_short = |texts: usize| u64::try_from(texts).is_ok_and(|bytes| bytes <= MAX_CHECK_TEXTS);
    u64::try_from(results.checks.len()).is_ok_and(|found| found <= MAX_CHECKS)
        && (results.checks.iter()).all(|(name, check)| is_short(name.len() + check.verdict.len()))
        && is_short(results.image.len())
}

/// Refuses an expression a value of which could be too large.
pub(super) fn check(expression: &IdedExpr) -> Result<(), InvalidExpression> {
    let mut scope = Scope::default();
    scope.most(expression)?;
    if scope.largest > MAX_BYTES {
        return Err(InvalidExpression::Growth);
    }
    Ok(())
}

/// The most that a value is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Most {
    /// All of it, in bytes.
    bytes: u64,
    /// What a loop over it passes.
    items: u64,
    /// The largest thing in it, in bytes.
    item: u64,
}

impl Most {
    /// A number, true, false, a type.
    const PLAIN: Self = Self::text(0);

    const fn text(length: u64) -> Self {
        Self {
            bytes: VALUE.saturating_add(length),
            items: 0,
            item: 0,
        }
    }

    /// Something that is in it.
    fn part(self) -> Self {
        Self {
            bytes: self.item.max(VALUE),
            items: self.item / VALUE,
            item: self.item,
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            items: self.items.max(other.items),
            item: self.item.max(other.item),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            items: self.items.saturating_add(other.items),
            item: self.item.max(other.item),
        }
    }

    fn times(self, number: u64) -> Self {
        Self {
            bytes: self.bytes.saturating_mul(number),
            items: self.items.saturating_mul(number),
            item: self.item,
        }
    }
}

#[derive(Default)]
struct Scope {
    /// The variables of the loops around it, the innermost one last.
    loops: Vec<(String, Most)>,
    /// The largest value so far, in bytes.
    largest: u64,
}

impl Scope {
    /// The most that a part is. Recurses no deeper than what `Size` let through.
    fn most(&mut self, part: &IdedExpr) -> Result<Most, InvalidExpression> {
        let most = match &part.expr {
            Expr::Ident(name) => self.variable(name),
            Expr::Literal(literal) => literal_of(literal),
            Expr::Select(select) => {
                let of = self.most(&select.operand)?;
                if select.test { Most::PLAIN } else { of.part() }
            }
            Expr::Call(call) => self.call(call)?,
            Expr::List(list) => {
                let mut all = Most::PLAIN;
                for item in &list.elements {
                    let item = self.most(item)?.bytes;
                    let (bytes, items) = (item.saturating_add(VALUE), 1);
                    all = all.and(Most { bytes, items, item });
                }
                all
            }
            Expr::Comprehension(of) => self.comprehension(of)?,
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => return Err(InvalidExpression::Construct),
        };
        self.largest = self.largest.max(most.bytes);
        Ok(most)
    }

    fn variable(&self, name: &str) -> Most {
        // With a dot before it no variable of a loop is meant.
        let (outer, name) = name.strip_prefix('.').map_or((false, name), |name| (true, name));
        let inner = self.loops.iter().rev().find(|(known, _)| !outer && known == name);
        if let Some((_, most)) = inner {
            return *most;
        }
        match name {
            "checks" => Most {
                bytes: CHECK * MAX_CHECKS,
                items: MAX_CHECKS,
                item: CHECK,
            },
            "image" | "previous" => Most {
                bytes: CHECK,
                items: 2,
                item: VALUE + MAX_CHECK_TEXTS,
            },
            // The name of a type: all others were refused before.
            _ => Most::PLAIN,
        }
    }

    fn call(&mut self, call: &CallExpr) -> Result<Most, InvalidExpression> {
        let mut given = Vec::with_capacity(call.args.len() + 1);
        for part in call.target.iter().map(AsRef::as_ref).chain(&call.args) {
            given.push(self.most(part)?);
        }
        Ok(match (call.func_name.as_str(), given.as_slice()) {
            (operators::ADD, [one, other]) => one.and(*other),
            (operators::CONDITIONAL, [_, one, other]) | ("or" | "orValue", [one, other]) => one.or(*other),
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [of, _]) => of.part(),
            ("dyn" | "value", [same]) => *same,
            ("string" | "bytes", [of]) => Most::text(of.bytes.saturating_add(NUMBER)),
            (name, _) if is_plain(name) => Most::PLAIN,
            (name, _) => return Err(InvalidExpression::Function { found: cut(name) }),
        })
    }

    /// What a loop makes is what each turn adds to it, as often as there are turns. A turn that does more than add, such as to
    /// double what is there, has no such bound; no macro of CEL is one.
    fn comprehension(&mut self, of: &ComprehensionExpr) -> Result<Most, InvalidExpression> {
        let range = self.most(&of.iter_range)?;
        let start = self.most(&of.accu_init)?;
        let outside = self.loops.len();
        self.loops.push((of.accu_var.clone(), Most::default()));
        self.loops.push((of.iter_var.clone(), range.part()));
        if let Some(second) = &of.iter_var2 {
            self.loops.push((second.clone(), range.part()));
        }
        self.most(&of.loop_cond)?;
        let added = self.most(&of.loop_step)?;
        let largest = self.largest;
        self.loops[outside].1 = Most {
            bytes: PROBE,
            items: PROBE,
            item: 0,
        };
        let probed = self.most(&of.loop_step)?;
        self.largest = largest;
        let is_sum = probed.bytes <= added.bytes.saturating_add(PROBE)
            && probed.items <= added.items.saturating_add(PROBE)
            && probed.item <= added.item;
        if !is_sum {
            return Err(InvalidExpression::Growth);
        }
        self.loops[outside].1 = if probed == added {
            start.or(added)
        } else {
            start.and(added.times(range.items))
        };
        // Its own variable is not there any more.
        self.loops.truncate(outside + 1);
        let result = self.most(&of.result);
        self.loops.truncate(outside);
        result
    }
}

fn literal_of(literal: &LiteralValue) -> Most {
    let length = match literal {
        LiteralValue::String(text) => text.inner().len(),
        LiteralValue::Bytes(bytes) => bytes.inner().len(),
        LiteralValue::Boolean(_)
        | LiteralValue::Double(_)
        | LiteralValue::Int(_)
        | LiteralValue::Null
        | LiteralValue::UInt(_) => 0,
    };
    Most::text(u64::try_from(length).unwrap_or(u64::MAX))
}

/// Whether its result is a number, true or false, or a type.
fn is_plain(function: &str) -> bool {
    matches!(
        function,
        operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::NOT_STRICTLY_FALSE
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE
            | operators::EQUALS
            | operators::NOT_EQUALS
            | operators::GREATER_EQUALS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::LESS
            | operators::IN
            | "size"
            | "contains"
            | "startsWith"
            | "endsWith"
            | "hasValue"
            | "bool"
            | "int"
            | "uint"
            | "double"
            | "type"
    )
}

#[cfg(test)]
mod tests;
