//! Which column's values can be copied in binary form into a column of another type, so that each arrives as the value that it is:
//! the form is the same, or the source can be asked for them in the other type without loss. Pure; knows the server's own
//! types by their names and no others.

/// How a column's values have to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// As they are.
    AsTheyAre,
    /// In this type.
    As(&'static str),
}

/// How the values of a type have to be given for another one; `None`: they have to be looked at one by one.
pub fn given(from: &str, to: &str) -> Option<Given> {
    if from == to {
        return Some(Given::AsTheyAre);
    }
    let (from, to) = (Name::parse(from)?, Name::parse(to)?);
    if let (Some((_, digits)), "numeric") = (from.whole(), to.base) {
        // Whole numbers have a form of their own.
        return to.decimal().is_none_or(|(whole, scale)| whole >= digits && scale >= 0).then_some(Given::As("numeric"));
    }
    match (from.whole(), to.whole()) {
        (Some((narrow, _)), Some((wide, _))) => return (narrow < wide).then(|| to.whole_name().map(Given::As)).flatten(),
        (None, None) => {}
        _ => return None,
    }
    let fits = match (from.base, to.base) {
        ("text" | "character varying", "text") => to.modifiers.is_none(),
        ("text" | "character varying", "character varying") => match (from.modifiers, to.modifiers) {
            (_, None) => true,
            (Some((chars, _)), Some((most, _))) => chars <= most,
            (None, Some(_)) => false,
        },
        ("numeric", "numeric") => match (from.decimal(), to.decimal()) {
            (_, None) => true,
            (Some((whole, scale)), Some((most, finest))) => whole <= most && scale <= finest,
            (None, Some(_)) => false,
        },
        _ => false,
    };
    fits.then_some(Given::AsTheyAre)
}

/// A type's name, as the server formats it.
struct Name<'a> {
    base: &'a str,
    modifiers: Option<(i32, Option<i32>)>,
}

impl<'a> Name<'a> {
    /// `None`: it is not one of those that are known here.
    fn parse(name: &'a str) -> Option<Name<'a>> {
        let (base, modifiers) = match name.split_once('(') {
            None => (name, None),
            Some((base, rest)) => {
                let mut numbers = rest.strip_suffix(')')?.split(',').map(|number| number.trim().parse().ok());
                (base, Some((numbers.next()??, numbers.next().flatten())))
            }
        };
        let is_known = matches!(base, "smallint" | "integer" | "bigint" | "numeric" | "text" | "character varying");
        is_known.then_some(Name { base, modifiers })
    }

    /// Of whole numbers: which width, and how many digits the largest one has.
    fn whole(&self) -> Option<(u8, i32)> {
        match self.base {
            "smallint" => Some((16, 5)),
            "integer" => Some((32, 10)),
            "bigint" => Some((64, 19)),
            _ => None,
        }
    }

    fn whole_name(&self) -> Option<&'static str> {
        ["integer", "bigint"].into_iter().find(|name| *name == self.base)
    }

    /// Of decimal numbers: how many digits before the point and behind it; `None`: any.
    fn decimal(&self) -> Option<(i32, i32)> {
        self.modifiers.map(|(precision, scale)| (precision.saturating_sub(scale.unwrap_or(0)), scale.unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_type_takes_all_values_of_a_narrower_one() {
        let as_they_are = [
            ("uuid", "uuid"),
            ("character varying(40)", "text"),
            ("character varying", "text"),
            ("text", "character varying"),
            ("character varying(40)", "character varying(41)"),
            ("numeric(10,2)", "numeric"),
            ("numeric(10,2)", "numeric(12,4)"),
            ("numeric(10,-2)", "numeric(12,0)"),
        ];
        for (from, to) in as_they_are {
            assert_eq!(given(from, to), Some(Given::AsTheyAre), "{from} into {to}");
        }
        let in_another = [
            ("smallint", "integer", "integer"),
            ("smallint", "bigint", "bigint"),
            ("integer", "bigint", "bigint"),
            ("bigint", "numeric", "numeric"),
            ("integer", "numeric(12,2)", "numeric"),
        ];
        for (from, to, ty) in in_another {
            assert_eq!(given(from, to), Some(Given::As(ty)), "{from} into {to}");
        }
    }

    #[test]
    fn what_may_lose_something_is_looked_at_one_by_one() {
        let refused = [
            ("bigint", "integer"),
            ("integer", "numeric(11,2)"),
            ("integer", "text"),
            ("text", "integer"),
            ("text", "character varying(40)"),
            ("character varying(41)", "character varying(40)"),
            ("numeric", "numeric(10,2)"),
            ("numeric(10,2)", "numeric(10,3)"),
            ("numeric(10,2)", "integer"),
            // Its shortest digits are another number there.
            ("real", "double precision"),
            ("character(5)", "text"),
            ("json", "jsonb"),
            ("timestamp without time zone", "timestamp with time zone"),
            ("mood", "text"),
            ("integer[]", "bigint[]"),
        ];
        for (from, to) in refused {
            assert_eq!(given(from, to), None, "{from} into {to}");
        }
    }
}
