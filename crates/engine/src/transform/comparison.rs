//! Comparisons in expressions, made exact. Jinja's own operators compare a decimal with a plain number by their kinds
//! and not by their values, and never fail; so before an expression is compiled, every `a < b` in it is written as
//! `((a)|__lt(b))`, and the filters of that name compare numbers by value and refuse to order what has no order.
//! Comparison binds tighter than `not`, `and`, `or`, `if` and looser than everything else, so an operand ends at those
//! words and at `,`, `:`, `=` and brackets. A number with a point becomes the decimal that is written, not the nearest
//! binary one: `19.99` is `("19.99"|__exact)`.

/// The operators, longer ones first, and the filters that stand for them.
const OPERATORS: &[(&str, &str)] =
    &[("==", "__eq"), ("!=", "__ne"), ("<=", "__le"), (">=", "__ge"), ("<", "__lt"), (">", "__gt")];

/// How deep brackets may nest: the reader recurses.
const DEPTH_MAX: usize = 60;

/// The expression with every comparison written as a filter. The error says what it cannot read.
pub(super) fn rewrite(source: &str) -> Result<String, String> {
    let mut tokens = tokenise(source)?.into_iter().peekable();
    let rewritten = sequence(&mut tokens, None, 0)?;
    Ok(rewritten)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Operator(&'static str),
    Word(String),
    Other(String),
    Open(char),
    Close(char),
}

fn tokenise(source: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let operator = OPERATORS.iter().find(|(operator, _)| rest.starts_with(operator));
        let length = match first {
            _ if operator.is_some() => operator.map_or(1, |(operator, _)| operator.len()),
            '"' | '\'' => string_length(rest, first).ok_or("a text is not closed")?,
            _ if first.is_alphabetic() || first == '_' => word_length(rest),
            // Behind a point a number is a place in a list (`tags.0`), never the beginning of a decimal.
            _ if first.is_ascii_digit() && tokens.last() != Some(&Token::Other(".".to_owned())) => number_length(rest),
            _ => first.len_utf8(),
        };
        let (text, behind) = rest.split_at_checked(length).ok_or("it is cut short")?;
        tokens.push(match (operator, first) {
            (Some((_, filter)), _) => Token::Operator(filter),
            (None, '(' | '[' | '{') => Token::Open(first),
            (None, ')' | ']' | '}') => Token::Close(first),
            (None, _) if first.is_alphabetic() || first == '_' => Token::Word(text.to_owned()),
            (None, '0'..='9') if text.contains(['.', 'e', 'E']) => {
                Token::Other(format!("(\"{}\"|__exact)", text.replace('_', "")))
            }
            (None, _) => Token::Other(text.to_owned()),
        });
        rest = behind;
    }
    Ok(tokens)
}

fn word_length(text: &str) -> usize {
    text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len())
}

/// Digits, and a point or an exponent only where digits follow: `1.5e-3`, but the `1` of `1..2`.
fn number_length(text: &str) -> usize {
    let digits = |text: &str| text.find(|letter: char| !letter.is_ascii_digit() && letter != '_').unwrap_or(text.len());
    let mut length = digits(text);
    let behind = |length: usize| text.get(length..).unwrap_or_default();
    if let Some(fraction) = behind(length).strip_prefix('.').filter(|fraction| fraction.starts_with(|d: char| d.is_ascii_digit()))
    {
        length += 1 + digits(fraction);
    }
    if let Some(exponent) = behind(length).strip_prefix(['e', 'E']) {
        let unsigned = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if unsigned.starts_with(|digit: char| digit.is_ascii_digit()) {
            length += 1 + (exponent.len() - unsigned.len()) + digits(unsigned);
        }
    }
    length
}

fn string_length(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (place, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return Some(place + letter.len_utf8()),
            _ => {}
        }
    }
    None
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

/// Everything up to the closing bracket, or to the end.
fn sequence(tokens: &mut Tokens, close: Option<char>, depth: usize) -> Result<String, String> {
    if depth > DEPTH_MAX {
        return Err(format!("brackets nest deeper than {DEPTH_MAX}"));
    }
    let mut written = String::new();
    let mut segment = Segment::default();
    loop {
        match tokens.next() {
            None if close.is_none() => break,
            None => return Err("a bracket is not closed".to_owned()),
            Some(Token::Close(bracket)) if close == Some(bracket) => break,
            Some(Token::Close(_)) => return Err("a bracket is closed that was not opened".to_owned()),
            Some(Token::Open(bracket)) => {
                let closing = match bracket {
                    '(' => ')',
                    '[' => ']',
                    _ => '}',
                };
                let inner = sequence(tokens, Some(closing), depth + 1)?;
                segment.operand.push_str(&format!("{bracket}{inner}{closing}"));
            }
            Some(Token::Operator(filter)) => segment.operator(filter)?,
            Some(Token::Word(word)) if is_membership(&word, tokens) => {
                segment.operator(if word == "not" { "__nin" } else { "__in" })?;
            }
            Some(Token::Word(word)) if matches!(word.as_str(), "and" | "or" | "not" | "if" | "else") => {
                written.push_str(&segment.finish()?);
                written.push_str(&format!(" {word} "));
            }
            Some(Token::Other(mark)) if matches!(mark.as_str(), "," | ":" | "=") => {
                written.push_str(&segment.finish()?);
                written.push_str(&mark);
            }
            Some(Token::Word(text) | Token::Other(text)) => segment.operand.push_str(&text),
        }
    }
    written.push_str(&segment.finish()?);
    Ok(written)
}

/// Whether the word is `in`, or the `not` of `not in`, whose `in` is then taken.
fn is_membership(word: &str, tokens: &mut Tokens) -> bool {
    if word != "not" {
        return word == "in";
    }
    let mut ahead = tokens.clone();
    while ahead.next_if(is_blank).is_some() {}
    if ahead.next_if(|token| matches!(token, Token::Word(word) if word == "in")).is_none() {
        return false;
    }
    *tokens = ahead;
    true
}

fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Other(text) if text.trim().is_empty())
}

/// Operands between two words or marks that comparison does not reach over.
#[derive(Default)]
struct Segment {
    compared: Option<(String, &'static str)>,
    operand: String,
}

impl Segment {
    fn operator(&mut self, filter: &'static str) -> Result<(), String> {
        let left = self.finish()?;
        if left.trim().is_empty() {
            return Err("a comparison lacks its left side".to_owned());
        }
        self.compared = Some((left, filter));
        Ok(())
    }

    fn finish(&mut self) -> Result<String, String> {
        let operand = std::mem::take(&mut self.operand);
        match self.compared.take() {
            None => Ok(operand),
            Some(_) if operand.trim().is_empty() => Err("a comparison lacks its right side".to_owned()),
            // `a == b is none` could be read in two ways; with the filter it would silently be a third.
            Some((left, filter)) if has_word(&operand, "is") || has_word(&left, "is") => {
                Err(format!("put brackets around the test beside a comparison ({filter})"))
            }
            Some((left, filter)) => Ok(format!("(({})|{filter}({}))", left.trim(), operand.trim())),
        }
    }
}

/// Whether the word stands in the operand outside of texts and brackets.
fn has_word(operand: &str, wanted: &str) -> bool {
    let mut depth = 0_usize;
    tokenise(operand).unwrap_or_default().into_iter().any(|token| {
        match &token {
            Token::Open(_) => depth += 1,
            Token::Close(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && token == Token::Word(wanted.to_owned())
    })
}
