//! Values between Python and JSON. What JSON does not have is a `TypeError` or `ValueError` that says where.

use pyo3::exceptions::{PyRecursionError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use serde_json::{Map, Number, Value};

/// How deep a value may be: what reads it again goes no deeper.
const DEEPEST: usize = 120;

/// A JSON value as Python has it.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => value.into_pyobject(py)?.into_any(),
            (None, Some(value)) => value.into_pyobject(py)?.into_any(),
            (None, None) => PyFloat::new(py, number.as_f64().unwrap_or(f64::NAN)).into_any(),
        },
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            for (name, value) in fields {
                dict.set_item(name, to_python(py, value)?)?;
            }
            dict.into_any()
        }
    })
}

/// A value of Python's as JSON.
pub(crate) fn to_json(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    read(value, 0)
}

fn read(value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > DEEPEST {
        let told = format!("the value is nested more than {DEEPEST} deep, or holds itself");
        return Err(PyRecursionError::new_err(told));
    }
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return text_of(text).map(Value::String);
    }
    if let Ok(value) = value.cast::<PyBool>() {
        return Ok(value.is_true().into());
    }
    if let Ok(number) = value.cast::<PyInt>() {
        let small = number.extract::<i64>().map(Value::from);
        return small.or_else(|_| number.extract::<u64>().map(Value::from)).map_err(|_| {
            PyValueError::new_err("an integer is beyond 64 bits, which JSON cannot carry safely")
        });
    }
    if let Ok(number) = value.cast::<PyFloat>() {
        return Number::from_f64(number.value())
            .map(Value::Number)
            .ok_or_else(|| PyValueError::new_err("NaN and infinity are no numbers of JSON"));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let mut fields = Map::new();
        for (name, value) in dict.iter() {
            let name = name
                .cast::<PyString>()
                .map_err(|_| PyTypeError::new_err("the keys of a JSON object are strings"))?;
            fields.insert(text_of(name)?, read(&value, depth + 1)?);
        }
        return Ok(Value::Object(fields));
    }
    if let Ok(list) = value.cast::<PyList>() {
        return list.iter().map(|item| read(&item, depth + 1)).collect();
    }
    if let Ok(tuple) = value.cast::<PyTuple>() {
        return tuple.iter().map(|item| read(&item, depth + 1)).collect();
    }
    // Dataclasses, models of pydantic, enumerations, times.
    let plain = crate::door::bridge(value.py(), "plain")?.call1((value,))?;
    read(&plain, depth + 1)
}

fn text_of(text: &Bound<'_, PyString>) -> PyResult<String> {
    text.to_str().map(str::to_owned).map_err(|_| {
        PyValueError::new_err("a string has half of a surrogate pair, which is no text in UTF-8")
    })
}
