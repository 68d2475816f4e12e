//! Which fields the variables of a rule have, and that an expression asks for no others. Pure.
//!
//! Must not let a field through that it does not know: `!has(previous.x)` is true for ever when there is no `x`, and such a
//! rule keeps nothing out. Only `checks` has free keys, the names of checks.

use super::{InvalidExpression, Severity};
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};

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

/// Refuses names that no variable has.
pub(super) fn check(expression: &IdedExpr) -> Result<(), InvalidExpression> {
    Scope::default().kind(expression).map(drop)
}

/// The variables of the loops around a part, the innermost one last.
#[derive(Default)]
struct Scope(Vec<(String, Kind)>);

impl Scope {
    /// What a part is. Recurses no deeper than what `Size` let through.
    fn kind(&mut self, part: &IdedExpr) -> Result<Kind, InvalidExpression> {
        match &part.expr {
            Expr::Ident(name) => self.variable(name),
            Expr::Literal(_) => Ok(Kind::Plain),
            Expr::Select(select) => self.kind(&select.operand)?.field(&select.field),
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

    fn variable(&self, name: &str) -> Result<Kind, InvalidExpression> {
        // With a dot before it no variable of a loop is meant.
        let (outer, name) = name.strip_prefix('.').map_or((false, name), |name| (true, name));
        let inner = self.0.iter().rev().find(|(known, _)| !outer && known == name);
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

    fn comprehension(&mut self, of: &ComprehensionExpr) -> Result<Kind, InvalidExpression> {
        let range = self.kind(&of.iter_range)?;
        let start = self.kind(&of.accu_init)?;
        let outside = self.0.len();
        self.0.push((of.accu_var.clone(), start.clone()));
        self.0.push((of.iter_var.clone(), range.item()));
        if let Some(second) = &of.iter_var2 {
            self.0.push((second.clone(), Kind::Open));
        }
        self.kind(&of.loop_cond)?;
        let grown = self.kind(&of.loop_step)?;
        self.0.push((of.accu_var.clone(), start.or(grown)));
        let result = self.kind(&of.result);
        self.0.truncate(outside);
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

fn cut(name: &str) -> String {
    crate::report::bounded(name).chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Changes, CheckResult, Expression, Results},
        *,
    };
    use cel::objects::{Key, Value};

    fn refused(text: &str) -> String {
        let refused = Expression::parse(text).err();
        refused.map_or_else(|| "accepted".to_owned(), |error| error.to_string())
    }

    /// Every key of a value by its path, and what this module says that the path is.
    fn walk(value: &Value, kind: &Kind, path: &str) {
        let Value::Map(map) = value else {
            assert_eq!(*kind, Kind::Plain, "{path}");
            return;
        };
        let mut names: Vec<String> = map.map.keys().map(Key::to_string).collect();
        names.sort();
        if let Some((_, mut known)) = kind.fields() {
            known.sort_unstable();
            assert_eq!(names, known, "{path}");
        }
        for (key, value) in map.map.iter() {
            let key = key.to_string();
            walk(value, &kind.field(&key).unwrap(), &format!("{path}.{key}"));
        }
    }

    #[test]
    fn the_known_fields_are_those_that_a_rule_is_given() {
        let check = CheckResult {
            database_age_hours: Some(1),
            ..CheckResult::default()
        };
        let results = Results {
            checks: [("cves".to_owned(), check)].into(),
            previous: Some(Changes::default()),
            ..Results::default()
        };
        let given = results.variables();
        assert_eq!(given.each_ref().map(|(name, _)| *name), VARIABLES.map(|(name, _)| name));
        for ((name, value), (_, kind)) in given.iter().zip(VARIABLES) {
            walk(value, &kind, name);
        }
    }

    #[test]
    fn a_field_that_no_variable_has_is_refused_with_those_that_there_are() {
        let previous = "previous has no such field: expected one of introduced, fixed, found";
        for (text, says) in [
            (
                "!has(previous.opened) || previous.opened == 0",
                format!("{previous} \"opened\""),
            ),
            ("previous.introducd == 0", format!("{previous} \"introducd\"")),
            ("has(previous.introducd)", format!("{previous} \"introducd\"")),
            ("!('opened' in previous)", format!("{previous} \"opened\"")),
            ("previous['opened'] == 0", format!("{previous} \"opened\"")),
            ("!has(.previous.opened)", format!("{previous} \"opened\"")),
            ("!has(dyn(previous).opened)", format!("{previous} \"opened\"")),
            (
                "(true ? previous : previous).opened == 0",
                format!("{previous} \"opened\""),
            ),
            ("[previous].all(p, !has(p.opened))", format!("{previous} \"opened\"")),
            (
                "image.tag == '1'",
                "image has no such field: expected one of digest, found \"tag\"".into(),
            ),
            (
                "!has(checks.cves.fixd) || true",
                "a check has no such field: expected one of verdict, evaluated, passed, failed, waived, suppressed, \
                 database_age_hours, found \"fixd\""
                    .into(),
            ),
            (
                "checks['cves'].failed.critcal == 0",
                "failed has no such field: expected one of ".into(),
            ),
            (
                "checks.all(c, checks[c].failed.worst == 0)",
                "failed has no such field".into(),
            ),
            (
                "[checks.a].filter(c, true).all(c, !has(c.x))",
                "a check has no such field".into(),
            ),
            ("checks.map(c, checks[c])[0].x == 1", "a check has no such field".into()),
            (
                "!has(previus.introduced)",
                "variables checks, image, previous, found \"previus\"".into(),
            ),
            ("[1].all(c, c == d)", "found \"d\"".into()),
            ("[1].all(c, c == 1) && c == 1", "found \"c\"".into()),
            (
                "!has(checks.cves.passed.x)",
                "of a value that has no known fields".into(),
            ),
            (
                "!has([checks.a, previous][0].opened)",
                "found \"opened\" of a value that has".into(),
            ),
            (
                "['opened'].exists(f, f in previous)",
                "of a value that has no known fields".into(),
            ),
        ] {
            assert!(refused(text).contains(&says), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn names_of_checks_are_free_and_what_is_known_may_be_asked_in_every_way() {
        for text in [
            "!has(checks.never) || checks.never.passed == 0",
            "'never' in checks && checks['a.b'].verdict == 'Passed'",
            "checks.all(c, checks[c].failed.critical == 0)",
            "['critical', 'high'].all(s, checks.cves.failed[s] == 0)",
            "[checks.a, checks.b].map(c, c.failed).all(f, f.high == 0)",
            "[checks.a].filter(c, c.passed > 0)[0].passed > 0",
            "previous.all(k, previous[k] == 0)",
            "'introduced' in previous && has(previous.fixed)",
            "[1].all(previous, previous == 1)",
            "size(checks) == 2 && type(1) == int",
            "image.digest.startsWith('sha256:')",
        ] {
            assert_eq!(refused(text), "accepted", "{text}");
        }
    }
}
