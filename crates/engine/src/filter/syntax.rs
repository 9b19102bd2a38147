//! The text of a condition: read into an expression, and written again so that reading it gives the same expression.

use std::fmt;

/// How deep parentheses and `NOT` may be nested.
const DEPTH_MAX: usize = 64;
/// Words that mean something and so are no names unless they stand in double quotes.
const WORDS: &[&str] = &["and", "between", "false", "in", "is", "like", "not", "null", "or", "true"];

/// Where something stands in a condition. What an expression means does not depend on it: all places are equal.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The line, from 1 on.
    pub line: usize,
    /// The sign within the line, from 1 on.
    pub column: usize,
}

impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// A condition as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// One of them.
    Or(Vec<Expression>),
    /// All of them.
    And(Vec<Expression>),
    /// The contrary.
    Not(Box<Expression>),
    /// Two values beside each other.
    Compare(Operand, Operator, Operand),
    /// One of several values. `true`: none of them.
    In(Operand, bool, Vec<Operand>),
    /// Within two bounds, which belong to it. `true`: outside.
    Between(Operand, bool, Operand, Operand),
    /// A text that looks so. `true`: that does not.
    Like(Operand, bool, String, Place),
    /// No value. `true`: any.
    IsNull(Operand, bool),
    /// A value that is true or false by itself.
    Holds(Operand),
}

/// A value of an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// What it is.
    pub what: What,
    /// Where it stands.
    pub place: Place,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A field's.
    Field(String),
    /// A number, by its digits.
    Number(String),
    /// A text, which may stand for a day, a time or whatever its field holds.
    Text(String),
    /// True or false.
    Bool(bool),
    /// None.
    Null,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `<>`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Operator {
    /// Its sign, in SQL.
    pub fn sign(self) -> &'static str {
        match self {
            Operator::Equal => "=",
            Operator::Unequal => "<>",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
        }
    }
}

/// Reads a condition.
///
/// # Errors
/// The first mistake, with its place.
pub fn parse(text: &str) -> Result<Expression, Mistake> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, next: 0 };
    let expression = parser.or(0)?;
    match parser.peek() {
        Token::End => Ok(expression),
        _ => Err(parser.unexpected("AND, OR or the end")),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A name or a word that means something; in double quotes it is a name.
    Word(String, bool),
    Number(String),
    Text(String),
    Compare(Operator),
    Open,
    Close,
    Comma,
    End,
}

/// Reads sign by sign, and knows where it is.
struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    place: Place,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    fn take(&mut self) -> Option<char> {
        let sign = self.rest.next()?;
        match sign {
            '\n' => self.place = Place { line: self.place.line.saturating_add(1), column: 1 },
            _ => self.place.column = self.place.column.saturating_add(1),
        }
        Some(sign)
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.peek() == Some(wanted) && self.take().is_some()
    }

    fn while_is(&mut self, text: &mut String, is: impl Fn(char) -> bool) {
        while let Some(sign) = self.peek().filter(|sign| is(*sign)) {
            self.take();
            text.push(sign);
        }
    }

    /// What stands between two of these quotes, of which a doubled one stands for itself. `None`: it is not closed.
    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        loop {
            match self.take()? {
                sign if sign == quote && !self.eat(quote) => return Some(text),
                sign => text.push(sign),
            }
        }
    }

    /// The digits behind what may be a sign.
    fn number(&mut self, mut text: String) -> Option<String> {
        self.while_is(&mut text, |sign| sign.is_ascii_digit());
        if self.eat('.') {
            text.push('.');
            self.while_is(&mut text, |sign| sign.is_ascii_digit());
        }
        if !text.contains(|sign: char| sign.is_ascii_digit()) {
            return None;
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            self.take();
            text.push('e');
            if let Some(sign) = self.peek().filter(|sign| matches!(sign, '+' | '-')) {
                self.take();
                text.push(sign);
            }
            let exponent = text.len();
            self.while_is(&mut text, |sign| sign.is_ascii_digit());
            if text.len() == exponent || text.len().saturating_sub(exponent) > 4 {
                return None;
            }
        }
        self.peek().is_none_or(|sign| !is_in_name(sign)).then_some(text)
    }
}

fn begins_name(sign: char) -> bool {
    sign.is_alphabetic() || sign == '_'
}

fn is_in_name(sign: char) -> bool {
    sign.is_alphanumeric() || matches!(sign, '_' | '$')
}

fn tokens(text: &str) -> Result<Vec<(Token, Place)>, Mistake> {
    let mut reader = Reader { rest: text.chars().peekable(), place: Place { line: 1, column: 1 } };
    let mut all = Vec::new();
    loop {
        while reader.peek().is_some_and(char::is_whitespace) {
            reader.take();
        }
        let place = reader.place;
        let mistake = |what: &str| Mistake { place, what: what.to_owned() };
        let Some(sign) = reader.take() else {
            all.push((Token::End, place));
            return Ok(all);
        };
        let number = |reader: &mut Reader<'_>, text: String| {
            reader.number(text).map(Token::Number).ok_or_else(|| mistake("this is no number"))
        };
        let token = match sign {
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '=' => Token::Compare(Operator::Equal),
            '!' if reader.eat('=') => Token::Compare(Operator::Unequal),
            '<' if reader.eat('>') => Token::Compare(Operator::Unequal),
            '<' if reader.eat('=') => Token::Compare(Operator::LessOrEqual),
            '<' => Token::Compare(Operator::Less),
            '>' if reader.eat('=') => Token::Compare(Operator::GreaterOrEqual),
            '>' => Token::Compare(Operator::Greater),
            '\'' => Token::Text(reader.quoted('\'').ok_or_else(|| mistake("the text has no closing quote"))?),
            '"' => match reader.quoted('"').ok_or_else(|| mistake("the name has no closing quote"))? {
                name if name.is_empty() => return Err(mistake("a name is empty")),
                name => Token::Word(name, true),
            },
            '-' => number(&mut reader, "-".to_owned())?,
            '+' => number(&mut reader, String::new())?,
            '.' if reader.peek().is_some_and(|next| next.is_ascii_digit()) => {
                let mut text = "0.".to_owned();
                reader.while_is(&mut text, |sign| sign.is_ascii_digit());
                match reader.peek().is_some_and(is_in_name) {
                    true => return Err(mistake("this is no number")),
                    false => Token::Number(text),
                }
            }
            digit if digit.is_ascii_digit() => number(&mut reader, digit.to_string())?,
            letter if begins_name(letter) => {
                let mut name = letter.to_string();
                reader.while_is(&mut name, is_in_name);
                Token::Word(name, false)
            }
            other => return Err(mistake(&format!("`{other}` means nothing here"))),
        };
        all.push((token, place));
    }
}

struct Parser {
    tokens: Vec<(Token, Place)>,
    next: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(token, _)| token)
    }

    fn place(&self) -> Place {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(Place { line: 1, column: 1 }, |(_, place)| *place)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next = self.next.saturating_add(1);
        token
    }

    fn unexpected(&self, wanted: &str) -> Mistake {
        let found = match self.peek() {
            Token::End => "the condition ends".to_owned(),
            Token::Word(word, _) => format!("`{word}` stands"),
            Token::Number(number) => format!("`{number}` stands"),
            Token::Text(_) => "a text stands".to_owned(),
            Token::Compare(operator) => format!("`{}` stands", operator.sign()),
            Token::Open => "`(` stands".to_owned(),
            Token::Close => "`)` stands".to_owned(),
            Token::Comma => "`,` stands".to_owned(),
        };
        Mistake { place: self.place(), what: format!("{found} where {wanted} should be") }
    }

    fn is_word(&self, wanted: &str) -> bool {
        matches!(self.peek(), Token::Word(word, false) if word.eq_ignore_ascii_case(wanted))
    }

    fn eat_word(&mut self, wanted: &str) -> bool {
        let is_it = self.is_word(wanted);
        if is_it {
            self.take();
        }
        is_it
    }

    fn expect(&mut self, wanted: &Token, called: &str) -> Result<(), Mistake> {
        match self.peek() == wanted {
            true => {
                self.take();
                Ok(())
            }
            false => Err(self.unexpected(called)),
        }
    }

    fn or(&mut self, depth: usize) -> Result<Expression, Mistake> {
        let first = self.and(depth)?;
        if !self.is_word("or") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.eat_word("or") {
            all.push(self.and(depth)?);
        }
        Ok(Expression::Or(all))
    }

    fn and(&mut self, depth: usize) -> Result<Expression, Mistake> {
        let first = self.not(depth)?;
        if !self.is_word("and") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.eat_word("and") {
            all.push(self.not(depth)?);
        }
        Ok(Expression::And(all))
    }

    fn not(&mut self, depth: usize) -> Result<Expression, Mistake> {
        if depth >= DEPTH_MAX {
            return Err(Mistake { place: self.place(), what: format!("more than {DEPTH_MAX} are nested") });
        }
        let deeper = depth.saturating_add(1);
        if self.eat_word("not") {
            return Ok(Expression::Not(Box::new(self.not(deeper)?)));
        }
        if *self.peek() == Token::Open {
            self.take();
            let inner = self.or(deeper)?;
            self.expect(&Token::Close, "`)`")?;
            return Ok(inner);
        }
        self.predicate()
    }

    fn predicate(&mut self) -> Result<Expression, Mistake> {
        let operand = self.operand("a field or a value")?;
        if let Token::Compare(operator) = *self.peek() {
            self.take();
            return Ok(Expression::Compare(operand, operator, self.operand("a field or a value")?));
        }
        if self.eat_word("is") {
            let negated = self.eat_word("not");
            return match self.eat_word("null") {
                true => Ok(Expression::IsNull(operand, negated)),
                false => Err(self.unexpected("NULL")),
            };
        }
        let negated = self.eat_word("not");
        if self.eat_word("in") {
            self.expect(&Token::Open, "`(`")?;
            let mut list = vec![self.operand("a value")?];
            while *self.peek() == Token::Comma {
                self.take();
                list.push(self.operand("a value")?);
            }
            self.expect(&Token::Close, "`,` or `)`")?;
            return Ok(Expression::In(operand, negated, list));
        }
        if self.eat_word("between") {
            let low = self.operand("a field or a value")?;
            if !self.eat_word("and") {
                return Err(self.unexpected("AND and the upper bound"));
            }
            return Ok(Expression::Between(operand, negated, low, self.operand("a field or a value")?));
        }
        if self.eat_word("like") {
            let place = self.place();
            return match self.take() {
                Token::Text(pattern) => Ok(Expression::Like(operand, negated, pattern, place)),
                _ => Err(Mistake { place, what: "LIKE is followed by a text in quotes".to_owned() }),
            };
        }
        match (negated, &operand.what) {
            (false, What::Field(_)) => Ok(Expression::Holds(operand)),
            (true, _) => Err(self.unexpected("IN, BETWEEN or LIKE")),
            _ => Err(self.unexpected("a comparison")),
        }
    }

    fn operand(&mut self, wanted: &str) -> Result<Operand, Mistake> {
        let place = self.place();
        let what = match self.peek() {
            Token::Word(word, false) if word.eq_ignore_ascii_case("null") => What::Null,
            Token::Word(word, false) if word.eq_ignore_ascii_case("true") => What::Bool(true),
            Token::Word(word, false) if word.eq_ignore_ascii_case("false") => What::Bool(false),
            Token::Word(word, quoted) if *quoted || !is_reserved(word) => What::Field(word.clone()),
            Token::Number(number) => What::Number(number.clone()),
            Token::Text(text) => What::Text(text.clone()),
            _ => return Err(self.unexpected(wanted)),
        };
        self.take();
        Ok(Operand { what, place })
    }
}

fn is_reserved(word: &str) -> bool {
    WORDS.iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |negated: &bool| if *negated { " NOT" } else { "" };
        match self {
            Expression::Or(all) => joined(f, all, " OR "),
            Expression::And(all) => joined(f, all, " AND "),
            Expression::Not(inner) => {
                f.write_str("NOT ")?;
                within(f, inner)
            }
            Expression::Compare(left, operator, right) => write!(f, "{left} {} {right}", operator.sign()),
            Expression::In(operand, negated, list) => {
                write!(f, "{operand}{} IN (", not(negated))?;
                for (number, one) in list.iter().enumerate() {
                    let comma = if number > 0 { ", " } else { "" };
                    write!(f, "{comma}{one}")?;
                }
                f.write_str(")")
            }
            Expression::Between(operand, negated, low, high) => write!(f, "{operand}{} BETWEEN {low} AND {high}", not(negated)),
            Expression::Like(operand, negated, pattern, _) => {
                write!(f, "{operand}{} LIKE '{}'", not(negated), pattern.replace('\'', "''"))
            }
            Expression::IsNull(operand, negated) => write!(f, "{operand} IS{} NULL", not(negated)),
            Expression::Holds(operand) => write!(f, "{operand}"),
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, all: &[Expression], word: &str) -> fmt::Result {
    for (number, one) in all.iter().enumerate() {
        if number > 0 {
            f.write_str(word)?;
        }
        within(f, one)?;
    }
    Ok(())
}

/// What consists of several stands in parentheses within another one.
fn within(f: &mut fmt::Formatter<'_>, expression: &Expression) -> fmt::Result {
    match expression {
        Expression::Or(_) | Expression::And(_) => write!(f, "({expression})"),
        one => write!(f, "{one}"),
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Field(name) => {
                let is_plain = name.chars().next().is_some_and(begins_name) && name.chars().all(is_in_name) && !is_reserved(name);
                match is_plain {
                    true => f.write_str(name),
                    false => write!(f, "\"{}\"", name.replace('"', "\"\"")),
                }
            }
            What::Number(digits) => f.write_str(digits),
            What::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            What::Bool(true) => f.write_str("TRUE"),
            What::Bool(false) => f.write_str("FALSE"),
            What::Null => f.write_str("NULL"),
        }
    }
}
