//! What `nftnl` has no safe interface for: expressions that it does not know.

use nftnl::expr::Expression;
use nftnl::{Rule, nftnl_sys as sys};
use std::ffi::{CStr, CString};
use std::ptr::NonNull;

/// An expression of nftables' virtual machine, by its kernel name and its
/// attributes (`NFTNL_EXPR_*`).
pub(crate) struct Instruction {
    name: &'static CStr,
    attributes: Vec<(u32, Value)>,
}

/// The value of an attribute.
pub(crate) enum Value {
    /// A number, in host byte order.
    U32(u32),
    /// A long number, in host byte order.
    U64(u64),
    /// A name.
    Text(CString),
    /// As it is.
    Bytes(Vec<u8>),
    /// An expression inside this one.
    Inner(Instruction),
}

impl Instruction {
    /// An expression without attributes yet.
    pub(crate) fn new(name: &'static CStr) -> Self {
        Self { name, attributes: Vec::new() }
    }

    /// With this number as attribute `kind`.
    pub(crate) fn number(mut self, kind: u32, value: u32) -> Self {
        self.attributes.push((kind, Value::U32(value)));
        self
    }

    /// With this long number as attribute `kind`.
    pub(crate) fn long(mut self, kind: u32, value: u64) -> Self {
        self.attributes.push((kind, Value::U64(value)));
        self
    }

    /// With these bytes as attribute `kind`.
    pub(crate) fn bytes(mut self, kind: u32, value: Vec<u8>) -> Self {
        self.attributes.push((kind, Value::Bytes(value)));
        self
    }

    /// With this expression as attribute `kind`.
    pub(crate) fn with(mut self, kind: u32, value: Self) -> Self {
        self.attributes.push((kind, Value::Inner(value)));
        self
    }

    /// With this name as attribute `kind`.
    pub(crate) fn text(mut self, kind: u32, value: CString) -> Self {
        self.attributes.push((kind, Value::Text(value)));
        self
    }
}

impl Expression for Instruction {
    fn to_expr(&self, _rule: &Rule<'_>) -> NonNull<sys::nftnl_expr> {
        self.allocated()
    }
}

impl Instruction {
    fn allocated(&self) -> NonNull<sys::nftnl_expr> {
        // SAFETY: the name ends with NUL; libnftnl only reads it.
        let expr = unsafe { sys::nftnl_expr_alloc(self.name.as_ptr()) };
        let Some(expr) = NonNull::new(expr) else {
            // Out of memory, or a libnftnl that does not know the expression:
            // as `nftnl` does, because a rule without it would mean another thing.
            std::process::abort()
        };
        for (kind, value) in &self.attributes {
            set(expr, *kind, value);
        }
        expr
    }
}

fn set(expr: NonNull<sys::nftnl_expr>, kind: u32, value: &Value) {
    let kind = u16::try_from(kind).unwrap_or(u16::MAX);
    match value {
        // SAFETY: `expr` is a live expression; libnftnl ignores kinds it does not know.
        Value::U32(number) => unsafe { sys::nftnl_expr_set_u32(expr.as_ptr(), kind, *number) },
        // SAFETY: as above.
        Value::U64(number) => unsafe { sys::nftnl_expr_set_u64(expr.as_ptr(), kind, *number) },
        Value::Bytes(bytes) => {
            let len = u32::try_from(bytes.len()).unwrap_or_default();
            // SAFETY: as above; `bytes` has `len` bytes, which are copied before this returns.
            unsafe { sys::nftnl_expr_set(expr.as_ptr(), kind, bytes.as_ptr().cast(), len) };
        }
        Value::Inner(inner) => {
            let inner = inner.allocated().as_ptr();
            // SAFETY: as above; the kinds that take an expression take its ownership too.
            unsafe { sys::nftnl_expr_set(expr.as_ptr(), kind, inner.cast(), 0) };
        }
        // SAFETY: as above; the text ends with NUL and is copied before this returns.
        Value::Text(text) => unsafe {
            sys::nftnl_expr_set_str(expr.as_ptr(), kind, text.as_ptr());
        },
    }
}
