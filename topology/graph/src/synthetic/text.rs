//! The text of a layout, taken apart.

use std::iter::Peekable;
use std::str::CharIndices;

use super::LayoutError;

/// Most levels of groups in groups.
const DEEPEST: usize = 8;

/// A layout as it was written.
pub(super) struct Layout<'t> {
    pub(super) fat_tree: Option<Item<'t>>,
    /// Pools that all hosts reach.
    pub(super) pools: Vec<Item<'t>>,
    pub(super) body: Vec<Item<'t>>,
}

/// So and so many of something, and what each holds.
pub(super) struct Item<'t> {
    pub(super) count: u32,
    pub(super) what: What<'t>,
    pub(super) attributes: Vec<Attribute<'t>>,
    pub(super) body: Vec<Self>,
    /// Where it stands, for errors.
    pub(super) column: usize,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What<'t> {
    FatTree,
    Group(&'t str),
    Host,
    Package,
    Numa,
    Npu,
    Nic,
    Cpu,
    Pool,
}

/// `name=value`.
pub(super) struct Attribute<'t> {
    pub(super) name: &'t str,
    pub(super) value: &'t str,
    pub(super) column: usize,
}

const GROUPS: [&str; 8] = ["region", "zone", "room", "row", "pod", "rack", "block", "group"];

impl<'t> What<'t> {
    fn of(word: &'t str) -> Option<Self> {
        let word = word.strip_suffix('s').unwrap_or(word);
        Some(match word {
            "host" => Self::Host,
            "package" => Self::Package,
            "numa" => Self::Numa,
            "npu" | "gpu" => Self::Npu,
            "nic" => Self::Nic,
            "cpu" => Self::Cpu,
            "pool" => Self::Pool,
            _ if GROUPS.contains(&word) => Self::Group(word),
            _ => return None,
        })
    }

    /// Its attributes.
    fn attributes(self) -> &'static [&'static str] {
        match self {
            Self::FatTree => &["levels", "over", "radix", "rail", "leaf", "gbps", "ns"],
            Self::Group(_) => &["over", "gbps", "ns"],
            Self::Host => &["cores", "gb_per_s"],
            Self::Package | Self::Numa => &["gb_per_s"],
            Self::Npu | Self::Cpu => &["gb_per_s", "ns"],
            Self::Nic => &["gbps"],
            Self::Pool => &["gb_per_s", "ns", "gib", "hosts"],
        }
    }

    /// What may stand in it, for people; empty when nothing may.
    fn holds(self) -> &'static str {
        match self {
            Self::Group(_) => "host, pool, or a group (region, zone, room, row, pod, rack, block)",
            Self::Host => "package, numa, npu, nic or cpu",
            Self::Package => "numa, npu, nic or cpu",
            Self::Numa => "npu, nic or cpu",
            _ => "",
        }
    }

    fn may_hold(self, inner: What<'_>) -> bool {
        match inner {
            What::Group(_) | What::Host | What::Pool => matches!(self, Self::Group(_)),
            What::Package => self == Self::Host,
            What::Numa => matches!(self, Self::Host | Self::Package),
            What::Npu | What::Nic | What::Cpu => {
                matches!(self, Self::Host | Self::Package | Self::Numa)
            }
            What::FatTree => false,
        }
    }
}

impl Item<'_> {
    /// A number that an attribute gives, above 0.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>, LayoutError> {
        let Some(attribute) = self.attribute(name) else { return Ok(None) };
        attribute.number(attribute.value).map(Some)
    }

    /// A whole number from 1 that an attribute gives.
    pub(super) fn whole(&self, name: &str) -> Result<Option<u32>, LayoutError> {
        let Some(attribute) = self.attribute(name) else { return Ok(None) };
        let number = attribute.value.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| attribute.expected("a whole number from 1")).map(Some)
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute<'_>> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

impl Attribute<'_> {
    /// The value, or a part of it, as a number above 0.
    pub(super) fn number(&self, text: &str) -> Result<f64, LayoutError> {
        let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
        number.ok_or_else(|| self.expected("a number above 0"))
    }

    pub(super) fn expected(&self, allowed: &str) -> LayoutError {
        LayoutError::Unexpected {
            column: self.column,
            found: format!("`{}={}`", self.name, self.value),
            allowed: allowed.to_owned(),
        }
    }
}

/// Takes a text apart.
pub(super) fn read(text: &str) -> Result<Layout<'_>, LayoutError> {
    let tokens = Tokens { text, chars: text.char_indices().peekable(), column: 0 };
    Reader { tokens: tokens.peekable(), end: text.chars().count() + 1 }.layout()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    Sign(char),
}

/// The tokens of a text, each with the column where it starts, counted in characters from 1.
struct Tokens<'t> {
    text: &'t str,
    chars: Peekable<CharIndices<'t>>,
    /// Characters taken.
    column: usize,
}

impl Tokens<'_> {
    /// Takes the next character if `good` says so, and says where it ended.
    fn take(&mut self, good: impl Fn(char) -> bool) -> Option<usize> {
        let (start, taken) = self.chars.next_if(|(_, c)| good(*c))?;
        self.column += 1;
        Some(start + taken.len_utf8())
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = (usize, Token<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.take(char::is_whitespace).is_some() {}
        let column = self.column + 1;
        let (start, first) = *self.chars.peek()?;
        let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        let Some(mut end) = self.take(in_word) else {
            self.take(|_| true);
            return Some((column, Token::Sign(first)));
        };
        loop {
            // A comma between digits is part of a list of numbers, as in `over=2,1`.
            let rest = self.text[end..].strip_prefix(',').unwrap_or_default();
            let list = rest.starts_with(|c: char| c.is_ascii_digit())
                && self.text[start..end].ends_with(|c: char| c.is_ascii_digit());
            match self.take(|c| in_word(c) || list && c == ',') {
                Some(after) => end = after,
                None => return Some((column, Token::Word(&self.text[start..end]))),
            }
        }
    }
}

struct Reader<'t> {
    tokens: Peekable<Tokens<'t>>,
    /// The column after the last character.
    end: usize,
}

impl<'t> Reader<'t> {
    fn layout(&mut self) -> Result<Layout<'t>, LayoutError> {
        let mut layout = Layout { fat_tree: None, pools: Vec::new(), body: Vec::new() };
        loop {
            if let Some((column, Token::Word("fattree"))) = self.tokens.peek().copied() {
                if layout.fat_tree.is_some() {
                    return Err(self.unexpected("a layout: there is one fattree already"));
                }
                self.tokens.next();
                let what = What::FatTree;
                let attributes = self.attributes(what, None)?;
                layout.fat_tree =
                    Some(Item { count: 1, what, attributes, body: Vec::new(), column });
                self.sign('/')?;
                continue;
            }
            let items = self.items(What::Group(""), 0)?;
            if items.iter().all(|item| item.what == What::Pool) && self.take('/') {
                layout.pools.extend(items);
                continue;
            }
            layout.body = items;
            return match self.tokens.peek() {
                None => Ok(layout),
                Some(_) => Err(self.unexpected("`+` or the end")),
            };
        }
    }

    /// Items with `+` between them.
    fn items(&mut self, within: What<'t>, depth: usize) -> Result<Vec<Item<'t>>, LayoutError> {
        let mut items = vec![self.item(within, depth)?];
        while self.take('+') {
            items.push(self.item(within, depth)?);
        }
        Ok(items)
    }

    fn item(&mut self, within: What<'t>, depth: usize) -> Result<Item<'t>, LayoutError> {
        let (column, count) = self.count()?;
        let what = match self.tokens.peek() {
            Some((_, Token::Word(word))) => What::of(word).filter(|what| within.may_hold(*what)),
            _ => None,
        };
        let Some(what) = what else { return Err(self.unexpected(within.holds())) };
        if matches!(what, What::Group(_)) && depth == DEEPEST {
            return Err(self.unexpected("host: groups stand at most 8 deep"));
        }
        self.tokens.next();
        let attributes =
            if self.take('[') { self.attributes(what, Some(']'))? } else { Vec::new() };
        let mut body = Vec::new();
        if !what.holds().is_empty() {
            self.sign('*')?;
            if self.take('(') {
                body = self.items(what, depth + 1)?;
                self.sign(')')?;
            } else {
                body.push(self.item(what, depth + 1)?);
            }
        }
        Ok(Item { count, what, attributes, body, column })
    }

    fn count(&mut self) -> Result<(usize, u32), LayoutError> {
        let Some((column, Token::Word(word))) = self.tokens.peek().copied() else {
            return Err(self.unexpected("a number from 1"));
        };
        let count = word.parse().ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| self.unexpected("a number from 1"))?;
        self.tokens.next();
        Ok((column, count))
    }

    /// `name=value` pairs up to `end`, or up to a `/` that stays; commas between them may be left out.
    fn attributes(
        &mut self,
        what: What<'t>,
        end: Option<char>,
    ) -> Result<Vec<Attribute<'t>>, LayoutError> {
        let mut attributes: Vec<Attribute<'t>> = Vec::new();
        let allowed = || what.attributes().join(", ");
        loop {
            match (self.tokens.peek().copied(), end) {
                (Some((_, Token::Sign(sign))), Some(end)) if sign == end => {
                    self.tokens.next();
                    return Ok(attributes);
                }
                (Some((_, Token::Sign('/'))), None) => return Ok(attributes),
                (Some((_, Token::Sign(','))), _) if !attributes.is_empty() => {
                    self.tokens.next();
                }
                (Some((column, Token::Word(name))), _) if what.attributes().contains(&name) => {
                    if attributes.iter().any(|known| known.name == name) {
                        return Err(self.unexpected("each attribute once"));
                    }
                    self.tokens.next();
                    self.sign('=')?;
                    let value = self.value()?;
                    attributes.push(Attribute { name, value, column });
                }
                _ => return Err(self.unexpected(&allowed())),
            }
        }
    }

    fn value(&mut self) -> Result<&'t str, LayoutError> {
        let Some((_, Token::Word(value))) = self.tokens.peek().copied() else {
            return Err(self.unexpected("a value"));
        };
        self.tokens.next();
        Ok(value)
    }

    fn take(&mut self, sign: char) -> bool {
        self.tokens.next_if(|(_, token)| *token == Token::Sign(sign)).is_some()
    }

    fn sign(&mut self, sign: char) -> Result<(), LayoutError> {
        if self.take(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    /// The error that says what stands next and what could.
    fn unexpected(&mut self, allowed: &str) -> LayoutError {
        let next = self.tokens.peek().copied();
        let (column, found) = match next {
            Some((column, Token::Word(word))) => (column, format!("`{word}`")),
            Some((column, Token::Sign(sign))) => (column, format!("`{sign}`")),
            None => (self.end, "the end".to_owned()),
        };
        LayoutError::Unexpected { column, found, allowed: allowed.to_owned() }
    }
}
