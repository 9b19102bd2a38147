//! Text as a part of a URL or a form, and back. Knows no URL's other parts.

/// Text as a part of a path, a query or a form: everything but letters, digits and `-._~` as `%XX`.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The text behind [`encoded`]; `None` for what is none.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The pairs of a query or a form, decoded; what is no pair, or is no text, is left out.
pub(crate) fn pairs(form: &str) -> Vec<(String, String)> {
    let spaced = |text: &str| decoded(&text.replace('+', " "));
    form.split('&')
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((spaced(name)?, spaced(value)?))
        })
        .collect()
}

/// A query or a form of these pairs.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_into_a_form_is_read_back() {
        let text = form(&[("code", "a+b c&d=é%"), ("state", "")]);
        assert_eq!(text, "code=a%2Bb%20c%26d%3D%C3%A9%25&state=");
        assert_eq!(pairs(&text), [("code".to_owned(), "a+b c&d=é%".to_owned()), ("state".to_owned(), String::new())]);
        assert_eq!(pairs("words=end-user+denied&broken=%f")[0].1, "end-user denied");
        assert_eq!(pairs("words=end-user+denied&broken=%f").len(), 1);
    }
}
