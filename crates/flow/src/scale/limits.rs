//! Changing at run time how many replicas there may be.

use std::fmt;
use std::rc::Rc;

use baton_placement::Bounds;

use super::What;
use crate::app::App;
use crate::status::ScaleStatus;

/// Why limits were not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScaleError {
    /// There is no such app, or no such function in it.
    Unknown,
    /// The function runs on other nodes only.
    Elsewhere,
    /// More at least than at most.
    MinAboveMax {
        /// At least.
        min: u32,
        /// At most.
        max: u32,
    },
    /// More than there may be, or none at all.
    OutOfRange {
        /// What was asked for.
        max: u32,
        /// The most.
        most: u32,
    },
    /// The template of its cells was started with room for fewer.
    NoRoom {
        /// What was asked for.
        max: u32,
        /// What there is room for.
        room: u32,
    },
}

impl fmt::Display for ScaleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScaleError::Unknown => f.write_str("there is no such function; `baton ps` shows those that are"),
            ScaleError::Elsewhere => f.write_str("the function runs on other nodes; ask one of those"),
            ScaleError::MinAboveMax { min, max } => {
                write!(f, "min is {min}, above max, which is {max}; raise max or lower min")
            }
            ScaleError::OutOfRange { max, most } => {
                write!(f, "max is {max}; give a number from 1 to {most}")
            }
            ScaleError::NoRoom { max, room } => write!(
                f,
                "max is {max}, and the cells were started with room for {room}; set scale.max in the manifest and deploy"
            ),
        }
    }
}

impl std::error::Error for ScaleError {}

/// Sets how many replicas of a function there are at least and at most; what is not given stays. Functions that share cells
/// have that together.
pub(crate) fn set(
    app: &Rc<App>,
    function: &str,
    (min, max): (Option<u32>, Option<u32>),
) -> Result<ScaleStatus, ScaleError> {
    let index = app.functions.iter().position(|state| state.name.as_str() == function);
    let index = index.ok_or(ScaleError::Unknown)?;
    let unit = app.unit_of(index).ok_or(ScaleError::Elsewhere)?;
    let before = unit.bounds();
    let (min, max) = (min.unwrap_or(before.min), max.unwrap_or(before.max));
    let most = baton_catalog::limits::REPLICAS_MAX;
    if max == 0 || max > most {
        return Err(ScaleError::OutOfRange { max, most });
    }
    if min > max {
        return Err(ScaleError::MinAboveMax { min, max });
    }
    if matches!(unit.what, What::Cells(_)) && max > unit.room {
        return Err(ScaleError::NoRoom { max, room: unit.room });
    }
    unit.bounds.set(Bounds { min, max, ..before });
    for state in &app.functions {
        // Whether it can be scaled at all may be new.
        state.is_stirred.set(false);
    }
    unit.look(app, false);
    Ok(unit.status())
}
