//! An element of a document that knows its line.

use roxmltree::{Document, Node};

use super::MOST_DEPTH;
use crate::error::Error;

/// An element of a document, and how deep it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'d> {
    node: Node<'d, 'd>,
    depth: u32,
}

impl<'d> Element<'d> {
    pub(super) fn root(document: &'d Document<'d>) -> Self {
        Self { node: document.root_element(), depth: 1 }
    }

    pub(super) fn name(self) -> &'d str {
        self.node.tag_name().name()
    }

    pub(super) fn line(self) -> u32 {
        self.node.document().text_pos_at(self.node.range().start).row
    }

    /// The elements in this one.
    ///
    /// # Errors
    /// They are nested too deep.
    pub(super) fn children(self) -> Result<impl Iterator<Item = Self>, Error> {
        let depth = self.depth + 1;
        let below = || self.node.children().filter(Node::is_element);
        if let Some(node) = below().next().filter(|_| depth > MOST_DEPTH) {
            let child = Self { node, depth };
            let (element, line) = (child.name().to_owned(), child.line());
            return Err(Error::Deep { element, line, most: MOST_DEPTH });
        }
        Ok(below().map(move |node| Self { node, depth }))
    }

    /// Whether there is an element of a name in this one.
    pub(super) fn holds(self, name: &str) -> bool {
        self.node.children().any(|node| node.is_element() && node.tag_name().name() == name)
    }

    /// All attributes, in order.
    pub(super) fn attributes(self) -> impl Iterator<Item = (&'d str, &'d str)> {
        self.node.attributes().map(|attribute| (attribute.name(), attribute.value()))
    }

    /// The text in the element, without the space around it; none where there is nothing else.
    pub(super) fn text(self) -> Option<String> {
        let parts = self.node.children().filter(Node::is_text).filter_map(|node| node.text());
        let text: Vec<_> = parts.map(str::trim).filter(|text| !text.is_empty()).collect();
        (!text.is_empty()).then(|| text.join(" "))
    }

    pub(super) fn optional(self, attribute: &str) -> Option<&'d str> {
        self.attributes().find(|(name, _)| *name == attribute).map(|(_, value)| value)
    }

    pub(super) fn required(self, attribute: &'static str) -> Result<&'d str, Error> {
        self.optional(attribute).ok_or_else(|| Error::Missing {
            element: self.name().to_owned(),
            line: self.line(),
            attribute,
        })
    }

    /// The value of an attribute as a whole number that is not negative, if it is there; hexadecimal after `0x`, as C
    /// reads it.
    pub(super) fn integer(self, attribute: &str) -> Result<Option<u32>, Error> {
        let Some(value) = self.optional(attribute) else { return Ok(None) };
        let text = value.trim();
        let number = match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.map(Some).map_err(|_| self.wrong(attribute, value, "a whole number of at least 0"))
    }

    /// The value of an attribute as a number that is not negative and not infinite, if it is there.
    pub(super) fn figure(self, attribute: &str) -> Result<Option<f64>, Error> {
        let Some(value) = self.optional(attribute) else { return Ok(None) };
        let number =
            value.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
        number.map(Some).ok_or_else(|| self.wrong(attribute, value, "a number of at least 0"))
    }

    /// The error of a value that an attribute cannot have.
    pub(super) fn wrong(self, attribute: &str, value: &str, expected: impl Into<String>) -> Error {
        Error::Value {
            element: self.name().to_owned(),
            line: self.line(),
            attribute: attribute.to_owned(),
            value: value.to_owned(),
            expected: expected.into(),
        }
    }
}
