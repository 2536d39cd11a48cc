//! One value of the tree: a scalar by its grammar, a list or a table.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key_path::KeyPath;
use super::{Reader, Section};
use crate::config::expand::expand;
use crate::config::source::{Located, Span};
use crate::config::values::{Problem, Scalar};

pub(in crate::config) type Node<'r> = Spanned<DeValue<'r>>;

/// A value while it is read.
pub(in crate::config) struct Value<'r> {
    pub(in crate::config) reader: &'r Reader<'r>,
    pub(in crate::config) node: &'r Node<'r>,
    pub(in crate::config) path: KeyPath<'r>,
}

impl<'r> Value<'r> {
    fn span(&self) -> Span {
        self.node.span().into()
    }

    /// Whether it is a table.
    pub(in crate::config) fn is_table(&self) -> bool {
        self.node.get_ref().is_table()
    }

    /// Whether it is a list.
    pub(in crate::config) fn is_list(&self) -> bool {
        self.node.get_ref().is_array()
    }

    /// The value by a grammar; what is wrong is reported.
    pub(in crate::config) fn read<T>(
        &self,
        grammar: impl FnOnce(&Scalar) -> Result<T, Problem>,
    ) -> Option<Located<T>> {
        match self.scalar().and_then(|scalar| grammar(&scalar)) {
            Ok(value) => Some(Located::new(value, self.span())),
            Err(problem) => {
                self.reader.report(problem.at(self.span(), &self.path));
                None
            }
        }
    }

    fn scalar(&self) -> Result<Scalar<'r>, Problem> {
        Ok(match self.node.get_ref() {
            DeValue::String(text) => {
                let expanded = expand(text, self.reader.env)?;
                Scalar::Text { from_env: *expanded != **text, text: expanded }
            }
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(Scalar::Integer)
                .map_err(|_| Problem::new(format!("{number} is out of range")))?,
            DeValue::Float(number) => Scalar::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Scalar::Boolean(*value),
            DeValue::Datetime(_) => Scalar::Other("a date"),
            DeValue::Array(_) => Scalar::Other("a list"),
            DeValue::Table(_) => Scalar::Other("a table"),
        })
    }

    /// The entries of a list; anything else is reported.
    pub(in crate::config) fn entries(&self) -> Option<Vec<Value<'r>>> {
        let Some(list) = self.node.get_ref().as_array() else {
            self.report_type("a list", "put it in brackets: `[...]`");
            return None;
        };
        let entry =
            |(index, node)| Value { reader: self.reader, node, path: self.path.entry(index) };
        Some(list.iter().enumerate().map(entry).collect())
    }

    /// Reads it as a table; anything else is reported and read as an empty one.
    pub(in crate::config) fn table<T>(&self, read: impl FnOnce(&mut Section<'r>) -> T) -> T {
        self.table_at(self.span(), read)
    }

    pub(super) fn table_at<T>(&self, span: Span, read: impl FnOnce(&mut Section<'r>) -> T) -> T {
        self.reader.table(self.as_table(), self.path.clone(), Some(span), read)
    }

    pub(super) fn as_table(&self) -> Option<&'r DeTable<'r>> {
        let table = self.node.get_ref().as_table();
        if table.is_none() {
            self.report_type("a table", "tables are written `{ key = value }` or `[name]`");
        }
        table
    }

    fn report_type(&self, expected: &str, help: &str) {
        let found = match self.scalar() {
            Ok(scalar) => scalar.to_string(),
            Err(_) => "another value".to_owned(),
        };
        let problem = Problem::new(format!("expected {expected}, found {found}")).help(help);
        self.reader.report(problem.at(self.span(), &self.path));
    }
}
