//! Functions on lists, sets and maps.

use super::{Answer, Call, Function, MANY, Problem, row, row_with_nulls};
use crate::source::Span;
use crate::value::{Number, Value, unify};
use std::collections::BTreeMap;

/// As Nomad: `range` makes no more than this many elements.
const MAX_RANGE: usize = 1024;

pub(super) const TABLE: &[Function] = &[
    row("chunklist", "chunklist(list, size)", 2, 2, chunklist),
    row_with_nulls("coalesce", "coalesce(values...)", 1, MANY, coalesce),
    row_with_nulls("coalescelist", "coalescelist(lists...)", 1, MANY, coalescelist),
    row("compact", "compact(list)", 1, 1, compact),
    row("concat", "concat(lists...)", 1, MANY, concat),
    row_with_nulls("contains", "contains(list, value)", 2, 2, |call| {
        let (items, wanted) = (call.list(0)?, call.value(1));
        call.budget.steps(items.len())?;
        Ok(Value::Bool(items.contains(wanted)))
    }),
    row("distinct", "distinct(list)", 1, 1, distinct),
    row("element", "element(list, index)", 2, 2, element),
    row("flatten", "flatten(list)", 1, 1, flatten),
    row("index", "index(collection, key)", 2, 2, |call| {
        crate::eval::get_index(call.value(0), call.value(1), Span::default())
            .map_err(|problem| call.bad(1, problem.message))
    }),
    row("keys", "keys(map)", 1, 1, |call| {
        call.give_list(call.map(0)?.keys().cloned().map(Value::String).collect())
    }),
    row("length", "length(collection)", 1, 1, |call| match call.value(0) {
        Value::List(items) | Value::Set(items) => Ok(Value::int(items.len() as i128)),
        Value::Map(items) => Ok(Value::int(items.len() as i128)),
        _ => Err(call.wrong(0, "a list, set or map")),
    }),
    row_with_nulls("lookup", "lookup(map, key, default)", 3, 3, |call| {
        let (map, key) = (call.map(0)?, call.text(1)?);
        Ok(map.get(&key).unwrap_or(call.value(2)).clone())
    }),
    row_with_nulls("merge", "merge(maps...)", 0, MANY, merge),
    row("range", "range(start, limit, step)", 1, 3, range),
    row("setintersection", "setintersection(sets...)", 1, MANY, |call| {
        sets(call, |result, items| result.retain(|item| items.contains(item)))
    }),
    row("setproduct", "setproduct(lists...)", 2, MANY, setproduct),
    row("setunion", "setunion(sets...)", 1, MANY, |call| {
        sets(call, |result, items| result.extend(items.iter().cloned()))
    }),
    row("slice", "slice(list, start, end)", 3, 3, slice),
    row("sort", "sort(list)", 1, 1, |call| {
        let mut items = call.texts(0)?;
        items.sort();
        call.give_list(items.into_iter().map(Value::String).collect())
    }),
    row("values", "values(map)", 1, 1, |call| call.give_list(call.map(0)?.values().cloned().collect())),
    row("zipmap", "zipmap(keys, values)", 2, 2, zipmap),
];

fn chunklist(call: &Call<'_>) -> Answer {
    let (items, size) = (call.list(0)?, call.int(1)?);
    let size = usize::try_from(size).map_err(|_| call.bad(1, "the size must not be negative"))?;
    if size == 0 {
        return call.give_list(vec![Value::list(items.to_vec())]);
    }
    call.charge(items.len() * 2 * size_of::<Value>())?;
    call.give_list(items.chunks(size).map(|chunk| Value::list(chunk.to_vec())).collect())
}

fn coalesce(call: &Call<'_>) -> Answer {
    let mut values = call.args.to_vec();
    unify(&mut values);
    values.into_iter().find(|value| *value != Value::Null).ok_or_else(|| "all arguments are null".into())
}

fn coalescelist(call: &Call<'_>) -> Answer {
    let filled = call.args.iter().find(|value| value.elements().is_some_and(|items| !items.is_empty()));
    filled.cloned().ok_or_else(|| "all lists are empty".into())
}

fn compact(call: &Call<'_>) -> Answer {
    let items = call.list(0)?.iter().filter(|item| **item != Value::Null);
    let items = items.map(Value::to_text).collect::<Option<Vec<_>>>();
    let items = items.ok_or_else(|| call.bad(0, "expected a list of strings"))?;
    call.give_list(items.into_iter().filter(|item| !item.is_empty()).map(Value::String).collect())
}

fn concat(call: &Call<'_>) -> Answer {
    let mut out = Vec::new();
    for at in 0..call.args.len() {
        let items = call.list(at)?;
        call.charge(size_of_val(items))?;
        out.extend(items.iter().cloned());
    }
    Ok(Value::list(out))
}

fn distinct(call: &Call<'_>) -> Answer {
    let mut items = call.list(0)?.to_vec();
    unify(&mut items);
    let mut out: Vec<Value> = Vec::new();
    for item in &items {
        call.budget.steps(out.len() / 16 + 1)?;
        if !out.contains(item) {
            out.push(item.clone());
        }
    }
    call.give_list(out)
}

fn element(call: &Call<'_>) -> Answer {
    let (items, at) = (call.list(0)?, call.int(1)?);
    if items.is_empty() {
        return Err(call.bad(0, "the list is empty"));
    }
    let wrapped = at.rem_euclid(items.len() as i64);
    Ok(items[usize::try_from(wrapped).unwrap_or(0)].clone())
}

fn flatten(call: &Call<'_>) -> Answer {
    fn walk(call: &Call<'_>, items: &[Value], out: &mut Vec<Value>) -> Answer<()> {
        for item in items {
            call.budget.steps(1)?;
            match item.elements() {
                Some(inner) => walk(call, inner, out)?,
                None => {
                    call.charge(size_of::<Value>())?;
                    out.push(item.clone());
                }
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    walk(call, call.list(0)?, &mut out)?;
    Ok(Value::list(out))
}

fn merge(call: &Call<'_>) -> Answer {
    let mut out = BTreeMap::new();
    for (at, value) in call.args.iter().enumerate() {
        if *value == Value::Null {
            continue;
        }
        let items = call.map(at)?;
        call.charge(items.len() * 4 * size_of::<Value>())?;
        out.extend(items.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    Ok(Value::map(out))
}

fn range(call: &Call<'_>) -> Answer {
    let (start, limit) = match call.args.len() {
        1 => (Number::Int(0), call.number(0)?),
        _ => (call.number(0)?, call.number(1)?),
    };
    let upward = start.order(limit).is_le();
    let step = match call.args.len() {
        3 => call.number(2)?,
        _ => Number::Int(if upward { 1 } else { -1 }),
    };
    let direction = step.order(Number::Int(0));
    if direction.is_eq() {
        return Err(call.bad(2, "the step must not be zero"));
    }
    if direction.is_gt() != upward && start != limit {
        return Err(call.bad(2, "the step leads away from the limit"));
    }
    let mut out = Vec::new();
    let mut at = start;
    while if upward { at.order(limit).is_lt() } else { at.order(limit).is_gt() } {
        if out.len() == MAX_RANGE {
            return Err(Problem::from(format!("makes more than {MAX_RANGE} elements")));
        }
        out.push(Value::Number(at));
        at = at.checked_add(step).ok_or("the result is too large")?;
    }
    call.give_list(out)
}

fn sets(call: &Call<'_>, join: fn(&mut Vec<Value>, &[Value])) -> Answer {
    let mut result = call.list(0)?.to_vec();
    for at in 1..call.args.len() {
        let items = call.list(at)?;
        call.charge((items.len() + result.len()) * size_of::<Value>())?;
        call.budget.steps((items.len() + 1).saturating_mul(result.len() + 1) / 16)?;
        join(&mut result, items);
    }
    unify(&mut result);
    Ok(Value::set(result))
}

fn setproduct(call: &Call<'_>) -> Answer {
    let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
    for at in 0..call.args.len() {
        let items = call.list(at)?;
        let count = rows.len().saturating_mul(items.len());
        call.charge(count.saturating_mul((at + 2) * size_of::<Value>()))?;
        call.budget.steps(count)?;
        rows = rows
            .iter()
            .flat_map(|row| items.iter().map(move |item| row.iter().cloned().chain([item.clone()]).collect()))
            .collect();
    }
    let rows = rows.into_iter().map(Value::list).collect();
    let all_sets = call.args.iter().all(|arg| matches!(arg, Value::Set(_)));
    if all_sets { Ok(Value::set(rows)) } else { call.give_list(rows) }
}

fn slice(call: &Call<'_>) -> Answer {
    let (items, start, end) = (call.list(0)?, call.int(1)?, call.int(2)?);
    let part = usize::try_from(start)
        .ok()
        .zip(usize::try_from(end).ok())
        .and_then(|(start, end)| items.get(start..end));
    let part =
        part.ok_or_else(|| call.bad(1, format!("{start} to {end} is not within a list of {}", items.len())))?;
    call.give_list(part.to_vec())
}

fn zipmap(call: &Call<'_>) -> Answer {
    let (keys, values) = (call.texts(0)?, call.list(1)?);
    if keys.len() != values.len() {
        return Err(call.bad(1, format!("{} keys but {} values", keys.len(), values.len())));
    }
    call.charge(keys.len() * 4 * size_of::<Value>())?;
    Ok(Value::map(keys.into_iter().zip(values.iter().cloned()).collect()))
}
