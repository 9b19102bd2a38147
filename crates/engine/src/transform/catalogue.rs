//! The one table of transformations: names, arguments, examples, and what becomes of them in a two-way sync.
//! docs/transformations.md says the same in prose; the examples here are run by the tests.

use super::arguments::Arguments;
use super::expression::Expression;
use super::step::{MapTable, Step};
use super::text::Rest;
use super::{Context, TransformSpec, dates, parse_region, parse_type};
use crate::error::{Code, Error, Result};
use crate::value::Value;

/// One entry of the catalogue.
#[derive(Debug)]
pub struct Transformation {
    /// The name in a mapping, and as a filter in expressions.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// Its arguments; the first may be given alone.
    pub arguments: &'static [Argument],
    /// What happens on the way back in a two-way sync, in one sentence.
    pub way_back: &'static str,
    /// Whether doing it twice is the same as doing it once.
    pub idempotent: bool,
    /// Whether different values may become the same one.
    pub lossy: bool,
    /// An example that the tests run.
    pub example: Example,
    compile: fn(&Arguments<'_>, &Context) -> Result<Option<Step>>,
}

/// One argument.
#[derive(Debug)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// What it is: `text`, `true or false`, `table`, …
    pub kind: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// What it means.
    pub meaning: &'static str,
}

/// An example as JSON texts.
#[derive(Debug)]
pub struct Example {
    /// The arguments.
    pub arguments: &'static str,
    /// The value before.
    pub input: &'static str,
    /// The value after.
    pub output: &'static str,
}

const fn argument(name: &'static str, kind: &'static str, required: bool, meaning: &'static str) -> Argument {
    Argument { name, kind, required, meaning }
}

const fn example(arguments: &'static str, input: &'static str, output: &'static str) -> Example {
    Example { arguments, input, output }
}

const NORMALISER: &str = "The other side's value is taken as it is: it is in the normal form already.";

/// Every transformation.
pub const CATALOGUE: &[Transformation] = &[
    Transformation {
        name: "none",
        summary: "Leaves the value as it is.",
        arguments: &[],
        way_back: "Nothing to undo.",
        idempotent: true,
        lossy: false,
        example: example("null", r#"" a ""#, r#"" a ""#),
        compile: |_, _| Ok(None),
    },
    Transformation {
        name: "format_phone",
        summary: "Writes a phone number in E.164. What is no valid number goes to review.",
        arguments: &[
            argument("region", "text", false, "Region of numbers without a country code, such as `US`."),
            argument("extension", "text", false, "`reject` (default) or `drop`: E.164 holds no extension."),
        ],
        way_back: NORMALISER,
        idempotent: true,
        lossy: true,
        example: example(r#"{"region": "US"}"#, r#""(650) 253-0000""#, r#""+16502530000""#),
        compile: |arguments, context| {
            let region = arguments.text("region")?.or(context.region.as_deref());
            let region = region.map(parse_region).transpose().map_err(|reason| arguments.error(&reason))?;
            let drop_extension = match arguments.text("extension")? {
                None | Some("reject") => false,
                Some("drop") => true,
                Some(_) => return Err(arguments.error("has `reject` or `drop` in `extension`")),
            };
            Ok(Some(Step::FormatPhone { region, drop_extension }))
        },
    },
    Transformation {
        name: "trim",
        summary: "Takes white space off both ends of a text.",
        arguments: &[],
        way_back: NORMALISER,
        idempotent: true,
        lossy: true,
        example: example("null", r#""  Ada ""#, r#""Ada""#),
        compile: |_, _| Ok(Some(Step::Trim)),
    },
    Transformation {
        name: "lowercase",
        summary: "Writes a text in lower case.",
        arguments: &[],
        way_back: NORMALISER,
        idempotent: true,
        lossy: true,
        example: example("null", r#""ÄDA""#, r#""äda""#),
        compile: |_, _| Ok(Some(Step::Lowercase)),
    },
    Transformation {
        name: "uppercase",
        summary: "Writes a text in upper case.",
        arguments: &[],
        way_back: NORMALISER,
        idempotent: true,
        lossy: true,
        example: example("null", r#""de""#, r#""DE""#),
        compile: |_, _| Ok(Some(Step::Uppercase)),
    },
    Transformation {
        name: "title_case",
        summary: "Begins every word with a capital and writes the rest in lower case.",
        arguments: &[],
        way_back: NORMALISER,
        idempotent: true,
        lossy: true,
        example: example("null", r#""ADA o'neil-KING""#, r#""Ada O'neil-King""#),
        compile: |_, _| Ok(Some(Step::TitleCase)),
    },
    Transformation {
        name: "split",
        summary: "Makes a list of a text, or takes one part of it.",
        arguments: &[
            argument("separator", "text", true, "What stands between the parts."),
            argument("index", "whole number", false, "Which part: 0 is the first, -1 the last. Null where there is none."),
            argument("of", "whole number", false, "How many parts there are in all; what is left over goes to one of them."),
            argument("rest", "text", false, "With `of`: `first` or `last` takes what is left over; without, it is refused."),
        ],
        way_back: "`join` with the same separator; one-way where `index` takes one part.",
        idempotent: false,
        lossy: false,
        example: example(r#"{"separator": ";"}"#, r#""red;green""#, r#"["red", "green"]"#),
        compile: |arguments, _| {
            let separator = separator(arguments)?;
            let index = arguments.whole("index")?;
            let Some(of) = arguments.whole("of")? else { return Ok(Some(Step::Split { separator, index })) };
            let place = |number: i64| usize::try_from(number).map_err(|_| arguments.error("counts its parts from 0"));
            let (part, of) = (place(index.unwrap_or(0))?, place(of)?);
            if part >= of {
                return Err(arguments.error("has an `index` that is not below `of`"));
            }
            let rest = match arguments.text("rest")? {
                None => Rest::Refused,
                Some("first") => Rest::First,
                Some("last") => Rest::Last,
                Some(_) => return Err(arguments.error("has `first` or `last` in `rest`")),
            };
            Ok(Some(Step::SplitPart { separator, part, of, rest }))
        },
    },
    Transformation {
        name: "join",
        summary: "Makes a text of a list, or of several fields of the record; nulls among the fields are left out.",
        arguments: &[
            argument("separator", "text", true, "What to put between the parts."),
            argument("fields", "list of fields", false, "Joins these fields of the record instead of the value."),
        ],
        way_back: "`split` with the same separator; one-way where `fields` joins several fields.",
        idempotent: false,
        lossy: false,
        example: example(r#"{"separator": ";"}"#, r#"["red", "green"]"#, r#""red;green""#),
        compile: |arguments, _| {
            let fields = arguments.texts("fields")?;
            let separator =
                if fields.is_some() { arguments.required_text("separator")?.to_owned() } else { separator(arguments)? };
            Ok(Some(match fields {
                Some(fields) => Step::JoinFields { separator, fields },
                None => Step::Join { separator },
            }))
        },
    },
    Transformation {
        name: "map",
        summary: "Looks the value up in a table. A value that the table does not name goes to review.",
        arguments: &[
            argument(
                "table",
                "table",
                true,
                "An object of texts to values, or a list of `[from, to]` pairs; `[null, to]` maps null.",
            ),
            argument("otherwise", "value", false, "What every other value becomes."),
            argument("keep_unknown", "true or false", false, "Whether every other value stays as it is."),
        ],
        way_back: "The table read backwards, where no two entries give the same and nothing catches the rest; else one-way.",
        idempotent: false,
        lossy: false,
        example: example(r#"{"table": {"A": "active", "I": "inactive"}}"#, r#""A""#, r#""active""#),
        compile: |arguments, _| compile_map(arguments).map(Some),
    },
    Transformation {
        name: "cast",
        summary: "Declares that the value may be changed to fit the type: rounded, cut, parsed.",
        arguments: &[argument(
            "type",
            "type",
            false,
            "`text(40)`, `integer`, `decimal(10,2)`, `date`, …; the target field's type when left out.",
        )],
        way_back: "A cast to the source field's type, where that is known; else one-way.",
        idempotent: true,
        lossy: true,
        example: example(r#"{"type": "decimal(10,2)"}"#, r#"{"decimal": "1.005"}"#, r#"{"decimal": "1.01"}"#),
        compile: |arguments, context| {
            let named = arguments.text("type")?.map(parse_type).transpose().map_err(|reason| arguments.error(&reason))?;
            let ty = named.or_else(|| context.target.clone());
            let ty = ty.ok_or_else(|| arguments.error("needs the argument `type`, for the target's type is not known here"))?;
            Ok(Some(Step::Cast { ty, back: context.source.clone() }))
        },
    },
    Transformation {
        name: "date_format",
        summary: "Writes a date or timestamp as text by a strftime pattern, reads one from text, or both.",
        arguments: &[
            argument(
                "to",
                "pattern",
                false,
                "The pattern to write. Left out: the result is a date, a timestamp or a point in time.",
            ),
            argument(
                "from",
                "pattern",
                false,
                "The pattern to read a text by. Left out: the value is a date or timestamp, or its ISO 8601 text.",
            ),
        ],
        way_back: "The patterns the other way round, where they leave nothing out; else one-way.",
        idempotent: false,
        lossy: false,
        example: example(r#"{"from": "%d.%m.%Y", "to": "%Y-%m-%d"}"#, r#""31.12.2024""#, r#""2024-12-31""#),
        compile: |arguments, context| {
            let (from, to) = (arguments.text("from")?, arguments.text("to")?);
            if from.is_none() && to.is_none() {
                return Err(arguments.error("needs `to`, `from` or both"));
            }
            for pattern in from.iter().chain(to.iter()) {
                dates::check_pattern(pattern).map_err(|reason| arguments.error(&reason))?;
            }
            let owned = |pattern: Option<&str>| pattern.map(str::to_owned);
            Ok(Some(Step::DateFormat { from: owned(from), to: owned(to), source: context.source.clone() }))
        },
    },
    Transformation {
        name: "expression",
        summary: "Computes the value from the record; sees null, too.",
        arguments: &[
            argument("expression", "text", true, "A Jinja expression over `value`, the fields by name, and `record`."),
            argument("inverse", "text", false, "The expression for the way back."),
        ],
        way_back: "The `inverse` expression; one-way without one.",
        idempotent: false,
        lossy: false,
        example: example(r#""value | multiply('1.19') | round(2)""#, r#"{"decimal": "10.00"}"#, r#"{"decimal": "11.9"}"#),
        compile: |arguments, _| {
            let forth = Expression::compile(arguments.required_text("expression")?)?;
            let back = arguments.text("inverse")?.map(Expression::compile).transpose()?;
            Ok(Some(Step::Expression { forth, back }))
        },
    },
];

/// Compiles one transformation; `None` where there is nothing to do.
pub(super) fn compile(spec: &TransformSpec, context: &Context) -> Result<Option<Step>> {
    let Some(entry) = CATALOGUE.iter().find(|entry| entry.name == spec.name) else {
        let known: Vec<&str> = CATALOGUE.iter().map(|entry| entry.name).collect();
        let message = format!("there is no transformation `{}`; there are: {}", spec.name, known.join(", "));
        return Err(Error::new(Code::TransformUnknown, message));
    };
    let known: Vec<&str> = entry.arguments.iter().map(|argument| argument.name).collect();
    let arguments = Arguments::read(entry.name, &spec.arguments, &known, Code::TransformArgument)?;
    (entry.compile)(&arguments, context)
}

fn separator(arguments: &Arguments<'_>) -> Result<String> {
    match arguments.required_text("separator")? {
        "" => Err(arguments.error("needs a separator that is not empty")),
        separator => Ok(separator.to_owned()),
    }
}

fn compile_map(arguments: &Arguments<'_>) -> Result<Step> {
    let pairs = match arguments.get("table") {
        Some(serde_json::Value::Object(table)) => {
            let pair = |(from, to): (&String, _)| Ok((Value::text(from.as_str()), arguments.to_value(to)?));
            table.iter().map(pair).collect::<Result<Vec<_>>>()?
        }
        Some(serde_json::Value::Array(pairs)) => {
            let pair = |pair: &serde_json::Value| match pair.as_array().map(Vec::as_slice) {
                Some([from, to]) => Ok((arguments.to_value(from)?, arguments.to_value(to)?)),
                _ => Err(arguments.error("needs pairs `[from, to]` in `table`")),
            };
            pairs.iter().map(pair).collect::<Result<Vec<_>>>()?
        }
        _ => return Err(arguments.error("needs an object or a list of pairs in `table`")),
    };
    let otherwise = arguments.value("otherwise")?;
    let keep_unknown = arguments.truth("keep_unknown")?;
    if keep_unknown && otherwise.is_some() {
        return Err(arguments.error("has either `otherwise` or `keep_unknown`, not both"));
    }
    Ok(Step::Map(std::sync::Arc::new(MapTable { pairs, otherwise, keep_unknown })))
}
