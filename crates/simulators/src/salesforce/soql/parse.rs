//! The grammar of queries: words to a tree. Knows no objects; whether a field exists is asked when the query is bound.

use super::lexer::{Token, tokens};

/// A query.
#[derive(Clone, Debug)]
pub struct Query {
    pub select: Vec<Selected>,
    pub from: String,
    pub condition: Option<Condition>,
    pub group_by: Vec<String>,
    pub order_by: Vec<OrderBy>,
    pub limit: Option<usize>,
    pub offset: usize,
    pub all_rows: bool,
}

/// What a query asks for.
#[derive(Clone, Debug)]
pub enum Selected {
    Field(String),
    /// `FIELDS(ALL)`, `FIELDS(STANDARD)`, `FIELDS(CUSTOM)`.
    Fields(String),
    Aggregate {
        function: String,
        field: Option<String>,
        alias: Option<String>,
    },
    Children(Box<Query>),
}

/// One entry of ORDER BY.
#[derive(Clone, Debug)]
pub struct OrderBy {
    pub field: String,
    pub descending: bool,
    pub nulls_last: bool,
}

/// A condition.
#[derive(Clone, Debug)]
pub enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Compare {
        field: String,
        operator: Operator,
        value: Literal,
    },
    In {
        field: String,
        negated: bool,
        values: Vec<Literal>,
    },
    InQuery {
        field: String,
        negated: bool,
        query: Box<Query>,
    },
    /// INCLUDES and EXCLUDES of multi-select picklists.
    Includes {
        field: String,
        negated: bool,
        values: Vec<Literal>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
}

/// A literal of a condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Text(String),
    /// A number, a date or a moment, as written.
    Number(String),
    /// `TODAY`, `LAST_N_DAYS:3`.
    Range(String, Option<i64>),
}

/// Reads a query.
pub fn query(text: &str) -> Result<Query, String> {
    let mut words = Words { tokens: tokens(text)?, at: 0 };
    let query = words.query()?;
    words.end()?;
    Ok(query)
}

/// Reads a condition alone: validation rules and triggers are written as such.
pub fn condition(text: &str) -> Result<Condition, String> {
    let mut words = Words { tokens: tokens(text)?, at: 0 };
    let condition = words.condition()?;
    words.end()?;
    Ok(condition)
}

struct Words {
    tokens: Vec<Token>,
    at: usize,
}

impl Words {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, String> {
        let token = self.tokens.get(self.at).cloned().ok_or("unexpected token: '<EOF>'")?;
        self.at += 1;
        Ok(token)
    }

    fn end(&self) -> Result<(), String> {
        self.peek().map_or(Ok(()), |token| Err(unexpected(token)))
    }

    fn is(&self, keyword: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(name)) if name.eq_ignore_ascii_case(keyword))
    }

    fn take(&mut self, keyword: &str) -> bool {
        let found = self.is(keyword);
        self.at += usize::from(found);
        found
    }

    fn take_all(&mut self, keywords: &[&str]) -> bool {
        let start = self.at;
        let all = keywords.iter().all(|keyword| self.take(keyword));
        if !all {
            self.at = start;
        }
        all
    }

    fn need(&mut self, keyword: &str) -> Result<(), String> {
        if self.take(keyword) { Ok(()) } else { Err(self.peek().map_or_else(end_of_file, unexpected)) }
    }

    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(own)) if *own == sign);
        self.at += usize::from(found);
        found
    }

    fn need_sign(&mut self, sign: &str) -> Result<(), String> {
        if self.sign(sign) { Ok(()) } else { Err(self.peek().map_or_else(end_of_file, unexpected)) }
    }

    fn name(&mut self) -> Result<String, String> {
        match self.next()? {
            Token::Name(name) => Ok(name),
            token => Err(unexpected(&token)),
        }
    }

    fn number(&mut self) -> Result<usize, String> {
        match self.next()? {
            Token::Number(text) => text.parse().map_err(|_| format!("unexpected token: '{text}'")),
            token => Err(unexpected(&token)),
        }
    }

    fn query(&mut self) -> Result<Query, String> {
        self.need("SELECT")?;
        let mut select = vec![self.selected()?];
        while self.sign(",") {
            select.push(self.selected()?);
        }
        self.need("FROM")?;
        let from = self.name()?;
        let alias = match self.peek() {
            Some(Token::Name(name)) if !is_clause(name) => Some(self.name()?),
            _ => None,
        };
        let condition = if self.take("WHERE") { Some(self.condition()?) } else { None };
        let mut group_by = Vec::new();
        if self.take_all(&["GROUP", "BY"]) {
            group_by.push(self.name()?);
            while self.sign(",") {
                group_by.push(self.name()?);
            }
        }
        let order_by = self.order_by()?;
        let limit = if self.take("LIMIT") { Some(self.number()?) } else { None };
        let offset = if self.take("OFFSET") { self.number()? } else { 0 };
        let all_rows = self.take_all(&["ALL", "ROWS"]);
        if self.take_all(&["FOR", "VIEW"]) || self.take_all(&["FOR", "REFERENCE"]) || self.take_all(&["FOR", "UPDATE"]) {
            // Changes nothing that the simulator keeps.
        }
        let mut query = Query { select, from, condition, group_by, order_by, limit, offset, all_rows };
        if let Some(alias) = alias {
            query.drop_alias(&format!("{alias}."));
        }
        Ok(query)
    }

    fn order_by(&mut self) -> Result<Vec<OrderBy>, String> {
        let mut order = Vec::new();
        if !self.take_all(&["ORDER", "BY"]) {
            return Ok(order);
        }
        loop {
            let field = self.name()?;
            let descending = self.take("DESC");
            let _ = self.take("ASC");
            let nulls_last = self.take_all(&["NULLS", "LAST"]);
            let _ = self.take_all(&["NULLS", "FIRST"]);
            order.push(OrderBy { field, descending, nulls_last });
            if !self.sign(",") {
                return Ok(order);
            }
        }
    }

    fn selected(&mut self) -> Result<Selected, String> {
        if self.sign("(") {
            let children = self.query()?;
            self.need_sign(")")?;
            return Ok(Selected::Children(Box::new(children)));
        }
        let name = self.name()?;
        if !self.sign("(") {
            return Ok(Selected::Field(name));
        }
        let field = if self.sign(")") {
            None
        } else {
            let field = self.name()?;
            self.need_sign(")")?;
            Some(field)
        };
        let alias = match self.peek() {
            Some(Token::Name(alias)) if !is_clause(alias) => Some(self.name()?),
            _ => None,
        };
        match (name.to_ascii_uppercase().as_str(), field) {
            ("FIELDS", Some(which)) => Ok(Selected::Fields(which.to_ascii_uppercase())),
            (function @ ("COUNT" | "COUNT_DISTINCT" | "MIN" | "MAX" | "SUM" | "AVG"), field) => {
                Ok(Selected::Aggregate { function: function.to_string(), field, alias })
            }
            // A label is the value here, and a format is the plain form.
            ("TOLABEL" | "FORMAT" | "CONVERTCURRENCY", Some(field)) => Ok(Selected::Field(field)),
            _ => Err(format!("unexpected token: '{name}'")),
        }
    }

    fn condition(&mut self) -> Result<Condition, String> {
        let first = self.factor()?;
        let mut all = vec![first];
        if self.is("AND") {
            while self.take("AND") {
                all.push(self.factor()?);
            }
            // The vendor wants parentheses where AND and OR meet.
            return if self.is("OR") { Err("unexpected token: 'OR'".to_string()) } else { Ok(Condition::And(all)) };
        }
        if self.is("OR") {
            while self.take("OR") {
                all.push(self.factor()?);
            }
            return if self.is("AND") { Err("unexpected token: 'AND'".to_string()) } else { Ok(Condition::Or(all)) };
        }
        all.pop().ok_or_else(end_of_file)
    }

    fn factor(&mut self) -> Result<Condition, String> {
        if self.take("NOT") {
            return Ok(Condition::Not(Box::new(self.factor()?)));
        }
        if self.sign("(") {
            let inner = self.condition()?;
            self.need_sign(")")?;
            return Ok(inner);
        }
        let field = self.name()?;
        if self.take_all(&["NOT", "IN"]) {
            return self.values_in(field, true);
        }
        if self.take("IN") {
            return self.values_in(field, false);
        }
        for (keyword, negated) in [("INCLUDES", false), ("EXCLUDES", true)] {
            if self.take(keyword) {
                let values = self.list()?;
                return Ok(Condition::Includes { field, negated, values });
            }
        }
        let operator = if self.take("LIKE") {
            Operator::Like
        } else {
            match self.next()? {
                Token::Sign("=") => Operator::Equal,
                Token::Sign("!=") => Operator::NotEqual,
                Token::Sign("<") => Operator::Less,
                Token::Sign("<=") => Operator::LessOrEqual,
                Token::Sign(">") => Operator::Greater,
                Token::Sign(">=") => Operator::GreaterOrEqual,
                token => return Err(unexpected(&token)),
            }
        };
        Ok(Condition::Compare { field, operator, value: self.literal()? })
    }

    fn values_in(&mut self, field: String, negated: bool) -> Result<Condition, String> {
        let start = self.at;
        if self.sign("(") && self.is("SELECT") {
            let query = Box::new(self.query()?);
            self.need_sign(")")?;
            return Ok(Condition::InQuery { field, negated, query });
        }
        self.at = start;
        Ok(Condition::In { field, negated, values: self.list()? })
    }

    fn list(&mut self) -> Result<Vec<Literal>, String> {
        self.need_sign("(")?;
        let mut values = vec![self.literal()?];
        while self.sign(",") {
            values.push(self.literal()?);
        }
        self.need_sign(")")?;
        Ok(values)
    }

    fn literal(&mut self) -> Result<Literal, String> {
        match self.next()? {
            Token::Text(text) => Ok(Literal::Text(text)),
            Token::Number(text) => Ok(Literal::Number(text)),
            Token::Name(name) => match name.to_ascii_uppercase().as_str() {
                "NULL" => Ok(Literal::Null),
                "TRUE" => Ok(Literal::Bool(true)),
                "FALSE" => Ok(Literal::Bool(false)),
                upper if self.sign(":") => {
                    let count = self.number()?;
                    Ok(Literal::Range(upper.to_string(), i64::try_from(count).ok()))
                }
                upper => Ok(Literal::Range(upper.to_string(), None)),
            },
            token => Err(unexpected(&token)),
        }
    }
}

impl Query {
    /// `SELECT a.Name FROM Account a` is `SELECT Name FROM Account`.
    fn drop_alias(&mut self, alias: &str) {
        let strip = |name: &mut String| {
            if name.get(..alias.len()).is_some_and(|front| front.eq_ignore_ascii_case(alias)) {
                name.drain(..alias.len());
            }
        };
        for selected in &mut self.select {
            match selected {
                Selected::Field(name) | Selected::Aggregate { field: Some(name), .. } => strip(name),
                _ => {}
            }
        }
        self.group_by.iter_mut().for_each(strip);
        self.order_by.iter_mut().for_each(|order| strip(&mut order.field));
        if let Some(condition) = &mut self.condition {
            condition.each_field(&strip);
        }
    }
}

impl Condition {
    fn each_field(&mut self, change: &impl Fn(&mut String)) {
        match self {
            Self::And(all) | Self::Or(all) => all.iter_mut().for_each(|one| one.each_field(change)),
            Self::Not(inner) => inner.each_field(change),
            Self::Compare { field, .. } | Self::In { field, .. } | Self::InQuery { field, .. } | Self::Includes { field, .. } => {
                change(field);
            }
        }
    }
}

fn is_clause(word: &str) -> bool {
    const CLAUSES: [&str; 10] = ["FROM", "WHERE", "GROUP", "ORDER", "LIMIT", "OFFSET", "ALL", "FOR", "WITH", "HAVING"];
    CLAUSES.iter().any(|clause| word.eq_ignore_ascii_case(clause))
}

fn unexpected(token: &Token) -> String {
    match token {
        Token::Name(text) | Token::Text(text) | Token::Number(text) => format!("unexpected token: '{text}'"),
        Token::Sign(sign) => format!("unexpected token: '{sign}'"),
    }
}

fn end_of_file() -> String {
    "unexpected token: '<EOF>'".to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_with_all_its_clauses() {
        let query = query(
            "select a.Id, Owner.Name, (SELECT Id FROM Contacts WHERE Email != null) from Account a \
             where (a.Name LIKE 'A%' OR Industry IN ('Banking', 'Media')) AND SystemModstamp >= 2026-01-01T00:00:00Z \
             order by Name desc nulls last, Id limit 10 offset 5",
        )
        .expect("a query");
        assert_eq!(query.select.len(), 3);
        assert!(matches!(&query.select[0], Selected::Field(name) if name == "Id"));
        assert!(matches!(&query.condition, Some(Condition::And(all)) if all.len() == 2));
        assert!(query.order_by[0].descending && query.order_by[0].nulls_last);
        assert_eq!((query.limit, query.offset), (Some(10), 5));
    }

    #[test]
    fn and_beside_or_needs_parentheses() {
        assert!(query("SELECT Id FROM Account WHERE A = 1 AND B = 2 OR C = 3").is_err());
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for text in
            ["", "SELECT", "SELECT FROM Account", "SELECT Id FROM", "SELECT Id FROM Account WHERE", "SELECT * FROM Account"]
        {
            assert!(query(text).is_err(), "{text}");
        }
    }
}
