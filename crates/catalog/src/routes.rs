//! Routes: which function answers which path and method.
//!
//! A pattern is a row of segments: literal text, `{name}` for exactly one segment, and, in last place only,
//! `{*name}` for everything that is left. Literal text beats a parameter, a parameter beats a wildcard, segment
//! by segment from the left. The path alone decides on the pattern; only then is the method looked at, so a
//! known path with another method is 405 and never a less specific pattern.

mod merged;
mod method;
mod pattern;
mod table;

use serde::{Deserialize, Serialize};

pub use self::merged::{Side, merged};
pub use self::method::{Method, MethodFault};
pub use self::pattern::{PatternFault, RoutePattern, Segment};
pub use self::table::{Match, Params, RouteClash, RouteTable};
use crate::names::FunctionName;

/// One route of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The paths that it answers.
    pub path: RoutePattern,
    /// The methods that it answers.
    pub methods: Vec<Method>,
    /// The function that answers.
    pub function: FunctionName,
}
