//! Splits a query into words. Owns the forms of literals; knows no grammar.

/// A word of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A name, possibly dotted, possibly a keyword.
    Name(String),
    /// Text between single quotes, unescaped.
    Text(String),
    /// A number, a date or a moment: digits first.
    Number(String),
    /// `=`, `!=`, `<`, `<=`, `>`, `>=`, `(`, `)`, `,`, `:` and the operators of formulas.
    Sign(&'static str),
}

const SIGNS: [&str; 16] = ["!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", ",", ":", "+", "*", "/", "&", "-"];

/// Splits; the error says at which character it stopped.
pub fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = if first == '\'' {
            quoted(rest)?
        } else if first.is_ascii_digit() || (first == '-' && literal_follows(rest, &found)) {
            let end = rest.char_indices().skip(1).find(|(at, c)| !in_number(rest, *at, *c)).map_or(rest.len(), |(at, _)| at);
            let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            (Token::Number(word.to_string()), after)
        } else if first.is_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            (Token::Name(word.to_string()), after)
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("unexpected token: '{first}'"))?;
            (Token::Sign(if *sign == "<>" { "!=" } else { sign }), rest.get(sign.len()..).unwrap_or(""))
        };
        found.push(token);
        rest = after.trim_start();
    }
    Ok(found)
}

/// A minus sign begins a number where no value stands before it.
fn literal_follows(rest: &str, found: &[Token]) -> bool {
    let digit = rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit());
    digit && !matches!(found.last(), Some(Token::Name(_) | Token::Number(_) | Token::Text(_) | Token::Sign(")")))
}

/// Digits, and what belongs to dates: `2026-01-01T00:00:00.000+01:00`, `1.5E+7`.
fn in_number(rest: &str, at: usize, c: char) -> bool {
    let moment = rest.get(..at).is_some_and(|before| before.len() >= 4 && before.chars().take(4).all(|c| c.is_ascii_digit()));
    let before = rest.get(..at).and_then(|before| before.chars().last()).unwrap_or(' ');
    c.is_ascii_digit()
        || matches!(c, '.' | 'T' | 'Z' | 't' | 'z' | 'E' | 'e')
        || (matches!(c, '-' | ':') && moment && date_like(rest, at))
        || (c == '+' && moment && rest.get(..at).is_some_and(|before| before.contains('T')))
        || (matches!(c, '+' | '-') && matches!(before, 'E' | 'e'))
}

/// A minus or a colon belongs to a date only where a date can have it.
fn date_like(rest: &str, at: usize) -> bool {
    at == 4 || at == 7 || rest.get(..at).is_some_and(|before| before.contains(['T', 't']))
}

fn quoted(rest: &str) -> Result<(Token, &str), String> {
    let mut text = String::new();
    let mut letters = rest.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\'' => return Ok((Token::Text(text), rest.get(at + 1..).unwrap_or(""))),
            '\\' => match letters.next().map(|(_, escaped)| escaped) {
                Some('n' | 'N') => text.push('\n'),
                Some('r' | 'R') => text.push('\r'),
                Some('t' | 'T') => text.push('\t'),
                Some('b' | 'B') => text.push('\u{8}'),
                Some('f' | 'F') => text.push('\u{c}'),
                Some(c @ ('\\' | '\'' | '"')) => text.push(c),
                // In a pattern an escaped wildcard stands for itself: kept for LIKE.
                Some(c @ ('_' | '%')) => text.extend(['\\', c]),
                Some('u') => {
                    let digits: String = letters.by_ref().take(4).map(|(_, digit)| digit).collect();
                    let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    text.push(code.ok_or("invalid unicode escape")?);
                }
                _ => return Err("invalid string literal: illegal escape sequence".to_string()),
            },
            _ => text.push(letter),
        }
    }
    Err("line 1: mismatched character '<EOF>' expecting '''".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_split_into_its_words() {
        let found = tokens(r"Owner.Name != 'O\'Brien' AND (X__c>=-1.5e+7)").expect("words");
        let name = |text: &str| Token::Name(text.to_string());
        assert_eq!(
            found,
            [
                name("Owner.Name"),
                Token::Sign("!="),
                Token::Text("O'Brien".to_string()),
                name("AND"),
                Token::Sign("("),
                name("X__c"),
                Token::Sign(">="),
                Token::Number("-1.5e+7".to_string()),
                Token::Sign(")")
            ]
        );
    }

    #[test]
    fn moments_and_arithmetic_are_told_apart() {
        assert_eq!(tokens("2026-01-01T00:00:00.000+01:00").expect("words").len(), 1);
        assert_eq!(tokens("2026-01-01").expect("words").len(), 1);
        assert_eq!(tokens("5-3").expect("words").len(), 3);
        assert_eq!(tokens("LAST_N_DAYS:30").expect("words").len(), 3);
    }

    #[test]
    fn an_open_quote_is_an_error() {
        assert!(tokens("Name = 'x").is_err());
    }
}
