//! Reads what a client sent into a stored value: the one place that trims, cuts, rounds and refuses. Knows one field at
//! a time; rules between fields are elsewhere.

use super::{Value, time};
use crate::salesforce::errors::RecordError;
use crate::salesforce::ids::Id;
use crate::salesforce::schema::{Field, Kind};
use bigdecimal::{BigDecimal, RoundingMode, ToPrimitive};
use serde_json::Value as Json;
use std::str::FromStr;

/// A value as it came: JSON of REST, or a cell of CSV.
#[derive(Clone, Debug)]
pub enum Given {
    Json(Json),
    Cell(String),
    /// `#N/A` in CSV.
    Null,
}

/// Reads a value for a field.
pub fn read(field: &Field, given: &Given) -> Result<Value, RecordError> {
    match given {
        Given::Null | Given::Json(Json::Null) => null(field),
        Given::Cell(text) => from_text(field, text),
        Given::Json(Json::String(text)) => from_text(field, text),
        Given::Json(Json::Bool(flag)) if field.kind == Kind::Boolean => Ok(Value::Bool(*flag)),
        Given::Json(Json::Number(number)) if matches!(field.kind, Kind::Int) || field.kind.is_decimal() => {
            number_of(field, &number.to_string())
        }
        Given::Json(Json::Bool(flag)) if field.kind.is_text() => from_text(field, &flag.to_string()),
        Given::Json(Json::Number(number)) if field.kind.is_text() => from_text(field, &number.to_string()),
        Given::Json(Json::Bool(flag)) => Err(cannot(field, "VALUE_TRUE", &flag.to_string())),
        Given::Json(Json::Number(number)) => Err(cannot(field, "VALUE_NUMBER", &number.to_string())),
        Given::Json(Json::Array(_)) => Err(cannot(field, "START_ARRAY", "[")),
        Given::Json(Json::Object(_)) => Err(cannot(field, "START_OBJECT", "{")),
    }
}

fn null(field: &Field) -> Result<Value, RecordError> {
    match field.kind {
        Kind::Boolean => Err(RecordError::on(
            "INVALID_TYPE_ON_FIELD_IN_RECORD",
            format!("{}: value not of required type: ", field.label),
            &field.name,
        )),
        _ => Ok(Value::Null),
    }
}

fn from_text(field: &Field, text: &str) -> Result<Value, RecordError> {
    let trimmed = text.trim_matches([' ', '\t', '\r', '\n', '\u{b}', '\u{c}']);
    if trimmed.is_empty() {
        return null(field);
    }
    match field.kind {
        Kind::Boolean => match trimmed.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(cannot(field, "VALUE_STRING", trimmed)),
        },
        Kind::Int | Kind::Double | Kind::Currency | Kind::Percent => number_of(field, trimmed),
        Kind::Date => {
            let day = time::parse_date(trimmed).or_else(|| time::parse_datetime(trimmed).map(time::day_of));
            day.map(Value::Date).ok_or_else(|| cannot(field, "VALUE_STRING", trimmed))
        }
        Kind::Datetime => {
            let moment = time::parse_datetime(trimmed).or_else(|| time::parse_date(trimmed).map(time::start_of));
            moment.map(Value::DateTime).ok_or_else(|| cannot(field, "VALUE_STRING", trimmed))
        }
        Kind::Time => time::parse_time(trimmed).map(Value::Time).ok_or_else(|| cannot(field, "VALUE_STRING", trimmed)),
        Kind::Id | Kind::Reference => Id::parse(trimmed).map(Value::Id).ok_or_else(|| {
            RecordError::on("MALFORMED_ID", format!("{}: id value of incorrect type: {trimmed}", field.label), &field.name)
        }),
        Kind::Email if !is_email(trimmed) => Err(RecordError::on(
            "INVALID_EMAIL_ADDRESS",
            format!("{}: invalid email address: {trimmed}", field.label),
            &field.name,
        )),
        Kind::Picklist | Kind::Multipicklist => picklist(field, trimmed),
        _ => sized(field, trimmed),
    }
}

fn sized(field: &Field, text: &str) -> Result<Value, RecordError> {
    let length = text.chars().count();
    if u32::try_from(length).unwrap_or(u32::MAX) > field.length {
        let message = format!("{}: data value too large: {text} (max length={})", field.label, field.length);
        return Err(RecordError::on("STRING_TOO_LONG", message, &field.name));
    }
    Ok(Value::text(text))
}

fn picklist(field: &Field, text: &str) -> Result<Value, RecordError> {
    let mut chosen = Vec::new();
    let several = field.kind == Kind::Multipicklist;
    for piece in text.split(|letter| several && letter == ';').map(str::trim).filter(|piece| !piece.is_empty()) {
        let known = field.values.iter().find(|known| known.value.eq_ignore_ascii_case(piece));
        match known {
            // A restricted one does not take what has been retired, either.
            Some(known) if known.active || !field.restricted => chosen.push(known.value.clone()),
            _ if field.restricted => {
                let message = format!("{}: bad value for restricted picklist field: {piece}", field.label);
                return Err(RecordError::on("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", message, &field.name));
            }
            _ => chosen.push(piece.to_string()),
        }
    }
    // Several values are kept in the order of the picklist, each once.
    let place = |value: &String| field.values.iter().position(|known| known.value == *value).unwrap_or(usize::MAX);
    chosen.sort_by_key(place);
    chosen.dedup();
    sized(field, &chosen.join(";"))
}

fn number_of(field: &Field, text: &str) -> Result<Value, RecordError> {
    let number = BigDecimal::from_str(text).map_err(|_| cannot(field, "VALUE_STRING", text))?;
    let (scale, rounding) = match field.kind {
        Kind::Int => (0, RoundingMode::HalfUp),
        Kind::Currency => (i64::from(field.scale), RoundingMode::HalfEven),
        _ => (i64::from(field.scale), RoundingMode::HalfUp),
    };
    let rounded = number.with_scale_round(scale, rounding);
    let whole_digits = rounded.abs().with_scale(0).to_string().trim_start_matches('0').len();
    let room = field.precision.saturating_sub(field.scale);
    if u32::try_from(whole_digits).unwrap_or(u32::MAX) > room.max(1) {
        let message = format!("{}: value outside of valid range on numeric field: {text}", field.label);
        return Err(RecordError::on("NUMBER_OUTSIDE_VALID_RANGE", message, &field.name));
    }
    let value = match field.kind {
        Kind::Int => rounded.to_i64().map(Value::Int),
        _ => rounded.to_f64().map(Value::Double),
    };
    value.ok_or_else(|| cannot(field, "VALUE_NUMBER", text))
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let fine = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace) && !part.contains("..");
    fine(local)
        && !local.contains('@')
        && fine(domain)
        && domain.contains('.')
        && !domain.starts_with('.')
        && !domain.ends_with('.')
}

fn cannot(field: &Field, token: &str, text: &str) -> RecordError {
    let message = format!("Cannot deserialize instance of {} from {token} value {text}", field.kind.name());
    RecordError::on("JSON_PARSER_ERROR", message, &field.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::salesforce::schema::Schema;
    use serde_json::json;

    fn given(object: &str, field: &str, value: Json) -> Result<Value, RecordError> {
        let schema = Schema::standard().expect("the standard objects");
        let object = schema.object(object).expect("an object");
        read(object.field(field).expect("a field").1, &Given::Json(value))
    }

    #[test]
    fn text_is_trimmed_and_nothing_is_null() {
        assert_eq!(given("Account", "Name", json!("  Acme ")), Ok(Value::text("Acme")));
        assert_eq!(given("Account", "Phone", json!("")), Ok(Value::Null));
        assert_eq!(given("Account", "Phone", json!("   ")), Ok(Value::Null));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_vendors_code() {
        let code = |object, field, value| given(object, field, value).expect_err("refused").code;
        assert_eq!(code("Account", "Name", json!("x".repeat(256))), "STRING_TOO_LONG");
        assert_eq!(code("Contact", "Email", json!("nobody")), "INVALID_EMAIL_ADDRESS");
        assert_eq!(code("Account", "CleanStatus", json!("Dirty")), "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST");
        assert_eq!(code("Account", "NumberOfEmployees", json!(123_456_789)), "NUMBER_OUTSIDE_VALID_RANGE");
        assert_eq!(code("Account", "AnnualRevenue", json!("much")), "JSON_PARSER_ERROR");
        assert_eq!(code("Account", "OwnerId", json!("me")), "MALFORMED_ID");
    }

    #[test]
    fn an_unrestricted_picklist_takes_any_value() {
        assert_eq!(given("Account", "Industry", json!("Alchemy")), Ok(Value::text("Alchemy")));
        assert_eq!(given("Account", "Industry", json!("banking")), Ok(Value::text("Banking")));
    }

    #[test]
    fn a_restricted_picklist_does_not_take_what_has_been_retired() {
        let mut schema = Schema::standard().expect("the standard objects");
        let field = r#"{"objects": [{"name": "Account", "fields": [
            {"name": "Grade__c", "type": "picklist", "length": 40, "restricted": true, "values": ["A", "B"], "inactiveValues": ["Z"]},
            {"name": "Loose__c", "type": "picklist", "length": 40, "values": ["A"], "inactiveValues": ["Z"]}]}]}"#;
        schema.load(&serde_json::from_str(field).expect("a file")).expect("fits");
        let object = schema.object("Account").expect("an object");
        let given =
            |name, value| read(object.field(name).expect("a field").1, &Given::Json(json!(value))).map_err(|error| error.code);
        assert_eq!(given("Grade__c", "b"), Ok(Value::text("B")));
        assert_eq!(given("Grade__c", "Z"), Err("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST".to_string()));
        assert_eq!(given("Loose__c", "Z"), Ok(Value::text("Z")));
    }

    #[test]
    fn numbers_are_rounded_to_their_scale() {
        assert_eq!(given("Opportunity", "Amount", json!(10.125)), Ok(Value::Double(10.12)));
        assert_eq!(given("Opportunity", "Amount", json!(10.135)), Ok(Value::Double(10.14)));
        assert_eq!(given("Opportunity", "TotalOpportunityQuantity", json!(10.125)), Ok(Value::Double(10.13)));
        assert_eq!(given("Account", "AnnualRevenue", json!("3.5E8")), Ok(Value::Double(350_000_000.0)));
    }
}
