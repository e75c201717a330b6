//! The tables as a JSON Schema (draft 7), for editors. Not here: rules between keys, which `check` alone knows.

use serde_json::{Map, Value, json};

use super::Role;
use super::schema::{Choice, Key, Kind, Preset, Table};
use super::tables::{ROOT, TENANT_FILE};
use super::unit;

/// Pattern of references, which may take the place of any string.
const REFERENCE: &str = r"^@|\$\{";
/// Largest integer that every JSON parser represents exactly (RFC 8259 section 6).
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The schema of `cairn.toml` and of files in `conf.d`; with `tenant`, that of a tenant's file.
#[must_use]
pub fn json_schema(tenant: bool) -> String {
    let mut schema = if tenant { table(&TENANT_FILE) } else { table(&ROOT) };
    if tenant {
        // Listeners of a tenant's routes come from its claims.
        let group = "/properties/group/items/properties";
        let defaults = "/properties/defaults/properties/route/properties";
        let routes =
            ["/properties/route/items/properties", group, &format!("{group}/route/items/properties"), defaults];
        for place in routes {
            if let Some(keys) = schema.pointer_mut(place).and_then(Value::as_object_mut) {
                keys.remove("listeners");
            }
        }
    }
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = if tenant { "the file of a tenant of cairn" } else { "cairn" }.into();
    format!("{schema:#}\n")
}

fn table(table: &Table) -> Value {
    let properties: Map<String, Value> = table.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required = table.keys.iter().filter(|key| matches!(key.preset, Preset::Required(_)));
    let required: Vec<_> = required.map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !table.doc.is_empty() {
        schema["description"] = table.doc.into();
    }
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    if !table.choices.is_empty() {
        schema["allOf"] = table.choices.iter().map(choice).collect();
    }
    schema
}

/// The schema for exactly one of the keys, or at most one.
fn choice(choice: &Choice) -> Value {
    let there = |name: &str| json!({ "required": [name] });
    let mut ways: Vec<_> = choice.keys.iter().map(|name| there(name)).collect();
    if !choice.required {
        ways.push(json!({ "not": { "anyOf": choice.keys.iter().map(|name| there(name)).collect::<Vec<_>>() } }));
    }
    json!({ "oneOf": ways })
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&key.kind);
    if !key.doc.is_empty() {
        schema["description"] = key.doc.into();
    }
    match key.preset {
        Preset::ByRole(_) => schema["description"] = format!("{} ({})", key.doc, by_role(key.preset)).into(),
        preset => {
            if let Some(value) = default(preset) {
                schema["default"] = value;
            }
        }
    }
    schema
}

fn by_role(preset: Preset) -> String {
    let roles = [("edge", Role::Edge), ("waypoint", Role::Waypoint), ("sidecar", Role::Sidecar)];
    roles.map(|(name, role)| format!("{name}: {}", preset.of(role).example())).join("; ")
}

fn default(preset: Preset) -> Option<Value> {
    match preset {
        Preset::Word(word) => Some(word.into()),
        Preset::Number(number) => Some(number.into()),
        Preset::Ratio(ratio) => Some(ratio.into()),
        Preset::Flag(flag) => Some(flag.into()),
        Preset::Size(bytes) => Some(unit::size_text(bytes).into()),
        Preset::Time(time) => Some(unit::duration_text(time).into()),
        Preset::Texts(texts) => Some(texts.into()),
        Preset::Required(_) | Preset::Optional(_) | Preset::Absent | Preset::Example(_) | Preset::ByRole(_) => None,
    }
}

fn kind(kind: &Kind) -> Value {
    let text = || json!({ "type": "string" });
    let with_unit = |units: &str| json!({ "type": "string", "pattern": format!("^[0-9]+({units})$|{REFERENCE}") });
    match kind {
        Kind::Text | Kind::Template | Kind::Page | Kind::Line | Kind::Path => text(),
        Kind::Word(words) => json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": REFERENCE }] }),
        Kind::Number(min, max) => integer(*min, *max),
        Kind::Ratio => ratio(),
        Kind::RatioOrOne(inner) => json!({ "anyOf": [ratio(), table(inner)] }),
        Kind::Size(min, max) => json!({ "anyOf": [with_unit("B|KiB|MiB|GiB|"), integer(*min, *max)] }),
        Kind::Time => with_unit("ms|s|m|h"),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::FlagOr(words) => {
            json!({ "anyOf": [{ "type": "boolean" }, { "enum": words }, { "type": "string", "pattern": REFERENCE }] })
        }
        Kind::Texts => json!({ "type": "array", "items": text() }),
        Kind::TextOrTexts | Kind::PathOrPaths => json!({ "anyOf": [text(), { "type": "array", "items": text() }] }),
        Kind::TextsOr(inner) => json!({ "type": "array", "items": { "anyOf": [text(), table(inner)] } }),
        Kind::Fields => json!({ "type": "object", "additionalProperties": text() }),
        Kind::Conditions => json!({ "type": "object", "additionalProperties": { "anyOf": [
            text(),
            only("regex", text()),
            only("present", json!({ "type": "boolean" })),
        ] } }),
        Kind::One(inner) => table(inner),
        Kind::FlagOrOne(inner) => json!({ "anyOf": [{ "type": "boolean" }, table(inner)] }),
        Kind::Many(inner) => json!({ "type": "array", "items": table(inner) }),
    }
}

/// The schema of a table with the one key `name`.
fn only(name: &str, schema: Value) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": { name: schema }, "required": [name] })
}

fn integer(min: u64, max: u64) -> Value {
    let mut schema = json!({ "type": "integer", "minimum": min });
    if max <= INTEGER_MAX {
        schema["maximum"] = max.into();
    }
    schema
}
/// A fraction from 0 to 1.
fn ratio() -> Value {
    json!({ "type": "number", "minimum": 0, "maximum": 1 })
}
