//! XML as small as the package's three documents need: elements, attributes, text.

use anyhow::{Result, ensure};

/// An element with attributes and either text or children.
#[derive(Clone, Debug)]
pub struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    text: Option<String>,
    children: Vec<Element>,
}

impl Element {
    /// An empty element. Names are ours, so they are not checked.
    #[must_use]
    pub fn new(name: &'static str) -> Element {
        Element { name, attributes: Vec::new(), text: None, children: Vec::new() }
    }

    /// With one more attribute; attributes keep their order.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Element {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// With this text in place of any other. An element with text has no children.
    #[must_use]
    pub fn text(mut self, text: impl ToString) -> Element {
        self.text = Some(text.to_string());
        self
    }

    /// With one more child; children keep their order.
    #[must_use]
    pub fn child(mut self, child: Element) -> Element {
        self.children.push(child);
        self
    }

    /// With more children.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = Element>) -> Element {
        self.children.extend(children);
        self
    }

    /// The document with this root, in UTF-8, one element a line.
    ///
    /// # Errors
    /// When a value holds a character that XML 1.0 has no form for.
    pub fn document(&self) -> Result<String> {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n");
        self.write(&mut out, 0)?;
        Ok(out)
    }

    fn write(&self, out: &mut String, depth: usize) -> Result<()> {
        let indent = "    ".repeat(depth);
        out.push_str(&format!("{indent}<{}", self.name));
        for (name, value) in &self.attributes {
            out.push_str(&format!(" {name}=\"{}\"", escaped(value)?));
        }
        if let Some(text) = &self.text {
            out.push_str(&format!(">{}</{}>\n", escaped(text)?, self.name));
        } else if self.children.is_empty() {
            out.push_str("/>\n");
        } else {
            out.push_str(">\n");
            for child in &self.children {
                child.write(out, depth + 1)?;
            }
            out.push_str(&format!("{indent}</{}>\n", self.name));
        }
        Ok(())
    }
}

/// `value` as it may stand in text and in a quoted attribute.
fn escaped(value: &str) -> Result<String> {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' => out.push(c),
            _ => {
                let control = c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
                ensure!(!control, "{value:?} holds {c:?}, which has no place in XML");
                out.push(c);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_can_neither_close_its_attribute_nor_its_element() {
        let document = Element::new("a")
            .with("b", "\"/><evil c='")
            .child(Element::new("d").text("</d><evil/>&amp;"))
            .document()
            .unwrap();
        assert_eq!(
            document,
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
             <a b=\"&quot;/&gt;&lt;evil c=&apos;\">\n    \
             <d>&lt;/d&gt;&lt;evil/&gt;&amp;amp;</d>\n</a>\n"
        );
    }

    #[test]
    fn characters_that_xml_has_no_form_for_are_refused() {
        for value in ["\0", "a\u{1b}b", "\u{7f}", "\u{85}", "\u{fffe}", "\r"] {
            assert!(Element::new("a").text(value).document().is_err(), "{value:?}");
            assert!(Element::new("a").with("b", value).document().is_err(), "{value:?}");
        }
    }
}
