//! The CEL expression of a policy: compiled with what it may name, evaluated over a borrowed head.
//!
//! Macros (`all`, `exists`, `map`, `filter`) and regular expressions are absent on purpose: without loops an evaluation costs
//! no more than the expression is long.

use crate::head::{Head, user_share};
use cel::common::traits::{Container, Indexer};
use cel::common::types::{CelDouble, CelInt, CelString, MAP_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, IdedExpr, Value};
use model::nearest;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

/// The variables an expression may name.
const VARIABLES: &[&str] = &[
    "request",
    "user_hash",
    "user_share",
    "priority",
    "business_level",
    "business",
    "service",
    "caller",
    "datacenter",
];
/// The fields of `request`.
const FIELDS: &[&str] = &["method", "host", "path", "query", "headers"];
/// The functions by name; operators are not among them.
const FUNCTIONS: &[&str] = &["size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string"];

/// Deepest nesting of an expression.
const NESTING_MAX: u16 = 32;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionFault {
    /// Column of the text, from 1; 0 when it has none.
    pub column: u32,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl std::fmt::Display for ExpressionFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.column {
            0 => f.write_str(&self.message),
            column => write!(f, "column {column}: {}", self.message),
        }
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    parsed: IdedExpr,
    constant: bool,
}

impl Expression {
    /// Compiles a text, and refuses what could never be evaluated.
    ///
    /// # Errors
    /// It is not CEL, it names something unknown, or it cannot give true or false.
    pub fn compile(text: &str) -> Result<Self, ExpressionFault> {
        let parser = ENV.parser().max_recursion_depth(NESTING_MAX);
        let parsed = match catch_unwind(AssertUnwindSafe(|| parser.parse(text))) {
            Ok(Ok(parsed)) => parsed,
            Ok(Err(errors)) => return Err(refused(&errors)),
            Err(_) => {
                let message = "the compiler gave up on it; write it simpler".to_owned();
                return Err(ExpressionFault { column: 0, message });
            }
        };
        check_names(&parsed)?;
        let constant = parsed.references().variables().is_empty();
        let compiled = Self { parsed, constant };
        compiled.check_type()?;
        Ok(compiled)
    }

    /// True when it names nothing of the request: it takes all or none.
    pub fn is_constant(&self) -> bool {
        self.constant
    }

    /// Whether the expression is true for a request.
    ///
    /// # Errors
    /// It fails on this very request, or gives neither true nor false: why, for people.
    pub fn matches(&self, head: &Head<'_>) -> Result<bool, String> {
        match self.evaluate(head) {
            Ok(Value::Bool(matches)) => Ok(matches),
            Ok(other) => Err(format!("gives {} where true or false was expected", other.type_of())),
            Err(failed) => Err(failed),
        }
    }

    fn evaluate(&self, head: &Head<'_>) -> Result<Value, String> {
        let variables = Variables(*head);
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            let mut context = Context::with_env(Arc::clone(&ENV));
            context.set_variable_resolver(&variables);
            Value::resolve(&self.parsed, &context)
        }));
        match evaluated {
            Ok(value) => value.map_err(|failed| in_words(&failed)),
            Err(_) => Err("the evaluation broke off".to_owned()),
        }
    }

    /// Evaluates over an example: types do not depend on the request, so one of them tells a wrong one.
    fn check_type(&self) -> Result<(), ExpressionFault> {
        let fault = |message| Err(ExpressionFault { column: 0, message });
        match catch_unwind(AssertUnwindSafe(|| self.evaluate(&EXAMPLE))) {
            Ok(Ok(Value::Bool(_))) => Ok(()),
            Ok(Ok(other)) => {
                fault(format!("gives {}; an expression must give true or false, such as priority > 9", other.type_of()))
            }
            // A header that the example lacks is no fault of the expression; a type that does not fit is.
            Ok(Err(failed)) if failed.starts_with(OVERLOAD) => fault(failed),
            Ok(Err(_)) => Ok(()),
            Err(_) => fault("the evaluation breaks off; write it simpler".to_owned()),
        }
    }
}

const EXAMPLE: Head<'static> = Head {
    business: "business",
    service: "service",
    caller: "outside",
    datacenter: "datacenter",
    method: "GET",
    host: "host",
    path: "/",
    query: "",
    headers: &crate::head::NoHeaders,
    user: Some(1),
    priority: 32_768,
};

/// How a failure for want of a fitting operator begins.
const OVERLOAD: &str = "no operator or function";

fn in_words(failed: &ExecutionError) -> String {
    match failed {
        ExecutionError::NoSuchKey(name) => format!("there is no {name:?}; ask `\"{name}\" in …` first"),
        ExecutionError::NoSuchOverload(at) => {
            let name = at.function().trim_matches(['_', '@']);
            format!("{OVERLOAD} `{name}` takes ({})", at.argument_types().join(", "))
        }
        other => other.to_string(),
    }
}

fn refused(errors: &cel::ParseErrors) -> ExpressionFault {
    let first = errors.errors.first();
    let column = first.and_then(|at| u32::try_from(at.pos.1).ok()).unwrap_or(0);
    let message = first.map_or_else(|| "not CEL".to_owned(), |at| at.msg.clone());
    let message = message.lines().next().unwrap_or("not CEL").to_owned();
    ExpressionFault { column, message: format!("not CEL: {message}") }
}

fn check_names(parsed: &IdedExpr) -> Result<(), ExpressionFault> {
    let references = parsed.references();
    let known = |name: &str, of: &[&str], what: &str| {
        if of.contains(&name) {
            return Ok(());
        }
        let hint =
            nearest(name, of.iter().copied()).map_or(String::new(), |found| format!("; did you mean `{found}`?"));
        let message = format!("unknown {what} `{name}`{hint} (known: {})", of.join(", "));
        Err(ExpressionFault { column: 0, message })
    };
    let variables: BTreeSet<&str> = references.variables().into_iter().collect();
    variables.into_iter().try_for_each(|name| known(name, VARIABLES, "variable"))?;
    let functions: BTreeSet<&str> = references.functions().into_iter().collect();
    // Operators have names that no text can write: `_&&_`, `!_`, `@in`.
    let named = functions.into_iter().filter(|name| name.bytes().all(|c| c.is_ascii_alphanumeric()));
    named.into_iter().try_for_each(|name| known(name, FUNCTIONS, "function"))?;
    let mut fields = BTreeSet::new();
    fields_of_request(&parsed.expr, &mut fields);
    fields.into_iter().try_for_each(|name| known(name, FIELDS, "field of request"))
}

/// The fields selected on `request`, wherever they stand.
fn fields_of_request<'a>(expr: &'a cel::common::ast::Expr, found: &mut BTreeSet<&'a str>) {
    use cel::common::ast::{EntryExpr, Expr};
    match expr {
        Expr::Select(select) => {
            if matches!(&select.operand.expr, Expr::Ident(name) if name == "request") {
                found.insert(&select.field);
            }
            fields_of_request(&select.operand.expr, found);
        }
        Expr::Call(call) => {
            call.target.iter().for_each(|target| fields_of_request(&target.expr, found));
            call.args.iter().for_each(|arg| fields_of_request(&arg.expr, found));
        }
        Expr::List(list) => list.elements.iter().for_each(|element| fields_of_request(&element.expr, found)),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    fields_of_request(&entry.key.expr, found);
                    fields_of_request(&entry.value.expr, found);
                }
            }
        }
        _ => {}
    }
}

/// Gives the variables as they are asked for, borrowed.
struct Variables<'a>(Head<'a>);

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let head = &self.0;
        let text = |text: &'b str| Some(CowVal::owned(CelString::from(text)));
        let whole = |number: i64| Some(CowVal::owned(CelInt::from(number)));
        match variable {
            "request" => Some(CowVal::owned(Request(*head))),
            "user_hash" => {
                Some(CowVal::owned(CelString::from(head.user.map_or_else(String::new, |user| format!("{user:016x}")))))
            }
            // Nobody's share is 1: below no threshold.
            "user_share" => Some(CowVal::owned(CelDouble::from(head.user.map_or(1.0, user_share)))),
            "priority" => whole(i64::from(head.priority)),
            "business_level" => whole(i64::from(head.business_level())),
            "business" => text(head.business),
            "service" => text(head.service),
            "caller" => text(head.caller),
            "datacenter" => text(head.datacenter),
            _ => None,
        }
    }
}

/// `request`: fields are made when they are asked for.
struct Request<'a>(Head<'a>);

/// `request.headers`.
struct HeadersVal<'a>(Head<'a>);

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0.method, self.0.path)
    }
}

impl std::fmt::Debug for HeadersVal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("headers")
    }
}

fn key_of(key: &dyn Val) -> Result<&str, ExecutionError> {
    key.downcast_ref::<CelString<'_>>().map(CelString::inner).ok_or_else(|| ExecutionError::UnexpectedType {
        got: key.get_type().name().to_owned(),
        want: "a name in quotes".to_owned(),
    })
}

macro_rules! lookups {
    ($name:ident) => {
        impl<'a> Val for $name<'a> {
            fn get_type(&self) -> &Type {
                &MAP_TYPE
            }

            fn cel_type() -> &'static Type {
                &MAP_TYPE
            }

            fn as_container(&self) -> Option<&dyn Container> {
                Some(self)
            }

            fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
            where
                Self: 'v,
            {
                Some(self)
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
            where
                Self: 'v,
            {
                Box::new($name(self.0))
            }
        }

        impl Container for $name<'_> {
            fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
                Ok(self.find(key_of(value)?).is_some())
            }
        }

        impl Indexer for $name<'_> {
            fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
            where
                Self: 'v,
            {
                let name = key_of(index)?;
                self.find(name).ok_or_else(|| ExecutionError::no_such_key(name))
            }

            fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
            where
                Self: 'v,
            {
                self.get(index).map(CowVal::into_owned)
            }
        }
    };
}

lookups!(Request);
lookups!(HeadersVal);

impl Request<'_> {
    fn find<'b, 'v>(&'b self, name: &str) -> Option<CowVal<'b, 'v>>
    where
        Self: 'v,
    {
        let text = match name {
            "method" => self.0.method,
            "host" => self.0.host,
            "path" => self.0.path,
            "query" => self.0.query,
            "headers" => return Some(CowVal::owned(HeadersVal(self.0))),
            _ => return None,
        };
        Some(CowVal::owned(CelString::from(text)))
    }
}

impl HeadersVal<'_> {
    fn find<'b, 'v>(&'b self, name: &str) -> Option<CowVal<'b, 'v>>
    where
        Self: 'v,
    {
        self.0.headers.get(name).map(|value| CowVal::owned(CelString::from(value)))
    }
}

#[cfg(test)]
mod tests;
