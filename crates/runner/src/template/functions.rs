//! The functions of templates that work without Consul and Vault, named as consul-template names them.

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine};
use gotmpl::{FuncMap, Result, TemplateError, Value, ValueFunc};
use md5::{Digest, Md5};
use serde_json::Value as Json;
use sha1::Sha1;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where file functions read: the content, or why not.
pub type Files = Arc<dyn Fn(&str) -> std::result::Result<String, String> + Send + Sync>;

/// Functions that need another system, and which.
const ELSEWHERE: [(&str, &str); 36] = [
    ("key", "Consul"),
    ("keyExists", "Consul"),
    ("keyOrDefault", "Consul"),
    ("keyExistsGet", "Consul"),
    ("ls", "Consul"),
    ("safeLs", "Consul"),
    ("tree", "Consul"),
    ("safeTree", "Consul"),
    ("node", "Consul"),
    ("nodes", "Consul"),
    ("service", "Consul"),
    ("services", "Consul"),
    ("connect", "Consul"),
    ("caRoots", "Consul"),
    ("caLeaf", "Consul"),
    ("datacenters", "Consul"),
    ("partitions", "Consul"),
    ("peerings", "Consul"),
    ("exportedServices", "Consul"),
    ("secret", "Vault"),
    ("secrets", "Vault"),
    ("pkiCert", "Vault"),
    ("byKey", "Consul"),
    ("byTag", "Consul"),
    ("byMeta", "Consul"),
    ("byPort", "Consul"),
    ("nomadService", "a Nomad server"),
    ("nomadServices", "a Nomad server"),
    ("nomadVar", "a Nomad server"),
    ("nomadVarList", "a Nomad server"),
    ("nomadVarListSafe", "a Nomad server"),
    ("nomadVarExists", "a Nomad server"),
    ("sockaddr", "the host's network"),
    ("plugin", "programs of the host"),
    ("writeToFile", "the host's files"),
    ("executeTemplate", "templates of the host"),
];
/// The most that `loop` makes.
const LONGEST_LOOP: i64 = 1_000_000;

/// All functions; `env` is the task's environment.
pub fn all(env: &BTreeMap<String, String>, files: Files) -> FuncMap {
    let mut map = FuncMap::new();
    for (name, what) in ELSEWHERE {
        let text = format!("{name} needs {what}, which is not there");
        add(&mut map, name, move |_| Err(TemplateError::Exec(text.clone())));
    }
    environment(&mut map, env);
    add(&mut map, "file", move |args| Ok(text_value(files(&text(args, 0)?).map_err(TemplateError::Exec)?)));
    strings(&mut map);
    encodings(&mut map);
    numbers(&mut map);
    lists(&mut map);
    super::scratch::all(&mut map);
    super::sprig::all(&mut map);
    map
}

pub(super) fn add(
    map: &mut FuncMap,
    name: &str,
    f: impl Fn(&[Value]) -> Result<Value> + Send + Sync + 'static,
) {
    let f: ValueFunc = Arc::new(f);
    map.insert(name.to_owned(), f);
}

pub(super) fn wrong(text: impl Into<String>) -> TemplateError {
    TemplateError::Exec(text.into())
}

pub(super) fn argument(args: &[Value], at: usize) -> Result<&Value> {
    args.get(at).ok_or_else(|| wrong(format!("an argument is missing: there are {}", args.len())))
}

pub(super) fn text(args: &[Value], at: usize) -> Result<String> {
    Ok(argument(args, at)?.to_string())
}

pub(super) fn text_value(text: impl AsRef<str>) -> Value {
    Value::String(text.as_ref().into())
}

fn environment(map: &mut FuncMap, env: &BTreeMap<String, String>) {
    let env = Arc::new(env.clone());
    let all = env.clone();
    add(map, "env", move |args| Ok(text_value(all.get(&text(args, 0)?).cloned().unwrap_or_default())));
    let all = env.clone();
    add(map, "envOrDefault", move |args| {
        let set = all.get(&text(args, 0)?).filter(|value| !value.is_empty());
        Ok(text_value(set.cloned().map_or_else(|| text(args, 1), Ok)?))
    });
    add(map, "mustEnv", move |args| {
        let name = text(args, 0)?;
        env.get(&name).map(text_value).ok_or_else(|| wrong(format!("the variable {name:?} is not set")))
    });
}

/// Functions of texts: the text comes last, so that it can be piped in.
fn strings(map: &mut FuncMap) {
    let mut one =
        |name: &str, f: fn(&str) -> String| add(map, name, move |args| Ok(text_value(f(&text(args, 0)?))));
    one("toLower", str::to_lowercase);
    one("toUpper", str::to_uppercase);
    one("toTitle", title);
    one("trimSpace", |text| text.trim().to_owned());
    one("md5sum", |text| hex(&Md5::digest(text)));
    one("sha1Hex", |text| hex(&Sha1::digest(text)));
    one("sha256Hex", |text| hex(&Sha256::digest(text)));
    let mut two = |name: &str, f: fn(&str, &str) -> String| {
        add(map, name, move |args| Ok(text_value(f(&text(args, 0)?, &text(args, 1)?))));
    };
    two("trim", |set, text| text.trim_matches(|c| set.contains(c)).to_owned());
    two("trimPrefix", |prefix, text| text.strip_prefix(prefix).unwrap_or(text).to_owned());
    two("trimSuffix", |suffix, text| text.strip_suffix(suffix).unwrap_or(text).to_owned());
    two("hmacSHA256Hex", |text, key| hex(&hmac(key.as_bytes(), text.as_bytes())));
    add(map, "replaceAll", |args| Ok(text_value(text(args, 2)?.replace(&text(args, 0)?, &text(args, 1)?))));
    add(map, "regexMatch", |args| Ok(Value::Bool(pattern(&text(args, 0)?)?.is_match(&text(args, 1)?))));
    add(map, "regexReplaceAll", |args| {
        let (with, text) = (text(args, 1)?, text(args, 2)?);
        Ok(text_value(pattern(&self::text(args, 0)?)?.replace_all(&text, with.as_str())))
    });
    add(map, "indent", |args| {
        let spaces = " ".repeat(usize::try_from(int(args, 0)?).unwrap_or(0).min(256));
        let lines: Vec<String> = text(args, 1)?
            .split('\n')
            .map(|line| if line.is_empty() { String::new() } else { format!("{spaces}{line}") })
            .collect();
        Ok(text_value(lines.join("\n")))
    });
    add(map, "split", |args| {
        let (by, text) = (text(args, 0)?, text(args, 1)?);
        let text = text.trim();
        let parts =
            if text.is_empty() { Vec::new() } else { text.split(by.as_str()).map(text_value).collect() };
        Ok(Value::List(parts.into()))
    });
    add(map, "join", |args| {
        let parts: Vec<String> = items(argument(args, 1)?)?.iter().map(Value::to_string).collect();
        Ok(text_value(parts.join(&text(args, 0)?)))
    });
    add(map, "timestamp", |args| {
        let now = jiff::Timestamp::now();
        match args.first().map(Value::to_string).as_deref() {
            None => Ok(text_value(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())),
            Some("unix") => Ok(text_value(now.as_second().to_string())),
            Some(_) => Err(wrong("timestamp takes \"unix\" or nothing")),
        }
    });
}

pub(super) fn pattern(text: &str) -> Result<regex_lite::Regex> {
    regex_lite::RegexBuilder::new(text).size_limit(1 << 20).build().map_err(|error| wrong(error.to_string()))
}

pub(super) fn title(text: &str) -> String {
    let mut start = true;
    let up = |c: char| {
        let first = std::mem::replace(&mut start, c.is_whitespace());
        if first { c.to_uppercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(up).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// HMAC of RFC 2104 with SHA-256.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let short = if key.len() > 64 { Sha256::digest(key).to_vec() } else { key.to_vec() };
    let pad = |with: u8| (0..64).map(|at| short.get(at).copied().unwrap_or(0) ^ with).collect::<Vec<u8>>();
    let inner = Sha256::digest([pad(0x36).as_slice(), text].concat());
    Sha256::digest([pad(0x5c).as_slice(), &inner].concat()).to_vec()
}

fn encodings(map: &mut FuncMap) {
    add(map, "base64Encode", |args| Ok(text_value(BASE64_STANDARD.encode(text(args, 0)?))));
    add(map, "base64URLEncode", |args| Ok(text_value(BASE64_URL_SAFE.encode(text(args, 0)?))));
    let decoded = |bytes: std::result::Result<Vec<u8>, base64::DecodeError>| {
        let bytes = bytes.map_err(|error| wrong(format!("not base64: {error}")))?;
        Ok(text_value(String::from_utf8(bytes).map_err(|_| wrong("what was encoded is not UTF-8"))?))
    };
    add(map, "base64Decode", move |args| decoded(BASE64_STANDARD.decode(text(args, 0)?)));
    add(map, "base64URLDecode", move |args| decoded(BASE64_URL_SAFE.decode(text(args, 0)?)));
    add(map, "parseJSON", |args| {
        let text = text(args, 0)?;
        if text.is_empty() {
            return Ok(Value::Map(Arc::default()));
        }
        serde_json::from_str(&text)
            .map(|json: Json| from_json(&json))
            .map_err(|error| wrong(error.to_string()))
    });
    add(map, "parseYAML", |args| {
        let documents = yaml_rust2::YamlLoader::load_from_str(&text(args, 0)?)
            .map_err(|error| wrong(error.to_string()))?;
        documents.first().map_or(Ok(Value::Map(Arc::default())), from_yaml)
    });
    let json = |args: &[Value]| to_json(argument(args, 0)?);
    let written = |text: std::result::Result<String, serde_json::Error>| {
        text.map(text_value).map_err(|error| wrong(error.to_string()))
    };
    // Go escapes what HTML would read; the "unescaped" forms do not.
    let escaped = |text: String| text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    add(map, "toJSON", move |args| written(serde_json::to_string(&json(args)?).map(escaped)));
    add(map, "toJSONPretty", move |args| written(serde_json::to_string_pretty(&json(args)?).map(escaped)));
    add(map, "toUnescapedJSON", move |args| written(serde_json::to_string(&json(args)?)));
    add(map, "toUnescapedJSONPretty", move |args| written(serde_json::to_string_pretty(&json(args)?)));
    add(map, "toTOML", move |args| match json(args)? {
        Json::Object(items) => {
            let mut out = String::new();
            toml_table(&items, "", &mut out);
            Ok(text_value(out))
        }
        _ => Err(wrong("only a map can be TOML")),
    });
    add(map, "toYAML", move |args| {
        let mut out = String::new();
        yaml_rust2::YamlEmitter::new(&mut out)
            .dump(&to_yaml(&json(args)?))
            .map_err(|error| wrong(error.to_string()))?;
        Ok(text_value(out.strip_prefix("---\n").unwrap_or(&out)))
    });
}

fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        // As in Go, every number of a JSON text is a float.
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Int(number),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => text_value(text),
        Json::Array(items) => Value::List(items.iter().map(from_json).collect()),
        Json::Object(items) => Value::Map(Arc::new(
            items.iter().map(|(key, value)| (key.as_str().into(), from_json(value))).collect(),
        )),
    }
}

fn to_json(value: &Value) -> Result<Json> {
    Ok(match value {
        Value::Nil => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(number) => Json::from(*number),
        Value::Uint(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::String(text) => Json::from(&**text),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect::<Result<_>>()?),
        Value::Map(items) => {
            let pairs = items.iter().map(|(key, value)| Ok((key.to_string(), to_json(value)?)));
            Json::Object(pairs.collect::<Result<_>>()?)
        }
        Value::Function(_) => return Err(wrong("a function is no data")),
    })
}

/// A table's own values, then the tables in it, each under its whole name.
fn toml_table(items: &serde_json::Map<String, Json>, name: &str, out: &mut String) {
    let key = |key: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !key.is_empty() && key.chars().all(plain) { key.to_owned() } else { format!("{key:?}") }
    };
    for (name, value) in items.iter().filter(|(_, value)| !value.is_object() && !value.is_null()) {
        // Of JSON's values only objects are written in another way, and null is none.
        out.push_str(&format!("{} = {}\n", key(name), toml_value(value)));
    }
    for (inner, value) in items {
        if let Json::Object(items) = value {
            let whole = if name.is_empty() { key(inner) } else { format!("{name}.{}", key(inner)) };
            out.push_str(&format!("{}[{whole}]\n", if out.is_empty() { "" } else { "\n" }));
            toml_table(items, &whole, out);
        }
    }
}

fn toml_value(value: &Json) -> String {
    match value {
        Json::Array(items) => {
            let items: Vec<String> = items.iter().filter(|item| !item.is_null()).map(toml_value).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(items) => {
            let pairs: Vec<String> =
                items.iter().map(|(key, value)| format!("{key:?} = {}", toml_value(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        // Texts, numbers and truth values are the same in both.
        other => other.to_string(),
    }
}

fn from_yaml(yaml: &yaml_rust2::Yaml) -> Result<Value> {
    use yaml_rust2::Yaml;
    Ok(match yaml {
        Yaml::Null => Value::Nil,
        Yaml::Boolean(value) => Value::Bool(*value),
        Yaml::Integer(number) => Value::Int(*number),
        Yaml::Real(text) => Value::Float(text.parse().unwrap_or_default()),
        Yaml::String(text) => text_value(text),
        Yaml::Array(items) => Value::List(items.iter().map(from_yaml).collect::<Result<Vec<_>>>()?.into()),
        Yaml::Hash(items) => {
            let pairs = items.iter().map(|(key, value)| {
                let key = from_yaml(key)?.to_string();
                Ok((Arc::from(key.as_str()), from_yaml(value)?))
            });
            Value::Map(Arc::new(pairs.collect::<Result<_>>()?))
        }
        Yaml::Alias(_) | Yaml::BadValue => return Err(wrong("not YAML that can be a value")),
    })
}

fn to_yaml(json: &Json) -> yaml_rust2::Yaml {
    use yaml_rust2::Yaml;
    match json {
        Json::Null => Yaml::Null,
        Json::Bool(value) => Yaml::Boolean(*value),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Yaml::Integer(number),
            None => Yaml::Real(number.to_string()),
        },
        Json::String(text) => Yaml::String(text.clone()),
        Json::Array(items) => Yaml::Array(items.iter().map(to_yaml).collect()),
        Json::Object(items) => {
            Yaml::Hash(items.iter().map(|(key, value)| (Yaml::String(key.clone()), to_yaml(value))).collect())
        }
    }
}

pub(super) fn int(args: &[Value], at: usize) -> Result<i64> {
    let value = argument(args, at)?;
    value
        .as_int()
        .or_else(|| value.to_string().trim().parse().ok())
        .ok_or_else(|| wrong(format!("{value} is no whole number")))
}

/// Arithmetic with the piped number first, as in consul-template: `{{ 5 | subtract 2 }}` is 3.
fn numbers(map: &mut FuncMap) {
    let mut whole = |name: &str, ints: fn(i64, i64) -> Option<i64>, floats: fn(f64, f64) -> f64| {
        let name = name.to_owned();
        add(map, &name.clone(), move |args| {
            let (second, first) = (argument(args, 0)?, argument(args, 1)?);
            if let (Value::Float(_), _) | (_, Value::Float(_)) = (first, second) {
                let number =
                    |value: &Value| value.as_float().or_else(|| value.as_int().map(|number| number as f64));
                let pair = number(first).zip(number(second));
                let (a, b) = pair.ok_or_else(|| wrong(format!("{name}: not numbers")))?;
                return Ok(Value::Float(floats(a, b)));
            }
            let answer = ints(int(args, 1)?, int(args, 0)?);
            answer.map(Value::Int).ok_or_else(|| wrong(format!("{name}: division by zero, or too large")))
        });
    };
    whole("add", i64::checked_add, |a, b| a + b);
    whole("subtract", i64::checked_sub, |a, b| a - b);
    whole("multiply", i64::checked_mul, |a, b| a * b);
    whole("divide", i64::checked_div, |a, b| a / b);
    whole("modulo", i64::checked_rem, |a, b| a % b);
    whole("minimum", |a, b| Some(a.min(b)), f64::min);
    whole("maximum", |a, b| Some(a.max(b)), f64::max);
    fn parsed<T: std::str::FromStr>(args: &[Value]) -> Result<Option<T>> {
        let text = text(args, 0)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| wrong(format!("{text:?} cannot be read as that")))
    }
    add(map, "parseBool", |args| Ok(Value::Bool(parsed(args)?.unwrap_or_default())));
    add(map, "parseInt", |args| Ok(Value::Int(parsed(args)?.unwrap_or_default())));
    add(map, "parseUint", |args| Ok(Value::Uint(parsed(args)?.unwrap_or_default())));
    add(map, "parseFloat", |args| Ok(Value::Float(parsed(args)?.unwrap_or_default())));
    add(map, "loop", |args| {
        let (from, to) = if args.len() > 1 { (int(args, 0)?, int(args, 1)?) } else { (0, int(args, 0)?) };
        if to.saturating_sub(from) > LONGEST_LOOP {
            return Err(wrong(format!("a loop of more than {LONGEST_LOOP} rounds")));
        }
        Ok(Value::List((from..to).map(Value::Int).collect()))
    });
}

pub(super) fn items(value: &Value) -> Result<&[Value]> {
    match value {
        Value::List(items) => Ok(items),
        Value::Nil => Ok(&[]),
        other => Err(wrong(format!("a {} is no list", other.type_name()))),
    }
}

pub(super) fn same(one: &Value, other: &Value) -> bool {
    one.type_name() == other.type_name() && one.to_string() == other.to_string()
}

fn lists(map: &mut FuncMap) {
    add(map, "in", |args| {
        let wanted = argument(args, 1)?;
        Ok(Value::Bool(items(argument(args, 0)?)?.iter().any(|item| same(item, wanted))))
    });
    add(map, "contains", |args| {
        let wanted = argument(args, 0)?;
        Ok(Value::Bool(items(argument(args, 1)?)?.iter().any(|item| same(item, wanted))))
    });
    let mut each = |name: &str, verdict: fn(usize, usize) -> bool| {
        add(map, name, move |args| {
            let (wanted, given) = (items(argument(args, 0)?)?, items(argument(args, 1)?)?);
            let there = wanted.iter().filter(|one| given.iter().any(|other| same(one, other))).count();
            Ok(Value::Bool(verdict(there, wanted.len())))
        });
    };
    each("containsAll", |there, wanted| there == wanted);
    each("containsAny", |there, _| there > 0);
    each("containsNone", |there, _| there == 0);
    each("containsNotAll", |there, wanted| there < wanted);
}
