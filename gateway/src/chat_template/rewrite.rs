//! Gives a parsed template Python's operators.
//!
//! The engine's own operators follow Rust where Jinja2's follow Python, and they can't be replaced:
//! `%` does not format, a macro knows no `varargs`, an attribute is never a method. So each of them
//! becomes a filter of this crate with a name that no template can write (`x % y` becomes
//! `x | "%"(y)`). Statements, scopes, fuel and limits stay the engine's.

use minijinja::{
    Value,
    machinery::{
        Span,
        ast::{
            BinOp, BinOpKind, Block, Call, CallArg, CallBlock, CompareOpKind, Const, EmitExpr,
            EmitRaw, Expr, Filter, FilterBlock, ForLoop, GetAttr, IfCond, IfExpr, List, Macro, Map,
            Set, SetBlock, Spanned, Stmt, Template, Test, Tuple, UnaryOp, UnaryOpKind, Var,
            WithBlock,
        },
    },
};

/// Names of the filters that stand for operators.
pub(super) mod operator {
    pub(crate) const ADD: &str = "+";
    pub(crate) const SUBTRACT: &str = "-";
    pub(crate) const MULTIPLY: &str = "*";
    pub(crate) const DIVIDE: &str = "/";
    pub(crate) const FLOOR_DIVIDE: &str = "//";
    pub(crate) const REMAINDER: &str = "%";
    pub(crate) const POWER: &str = "**";
    pub(crate) const CONCAT: &str = "~";
    pub(crate) const NEGATE: &str = "-x";
    pub(crate) const EQUAL: &str = "==";
    pub(crate) const NOT_EQUAL: &str = "!=";
    pub(crate) const LESS: &str = "<";
    pub(crate) const LESS_EQUAL: &str = "<=";
    pub(crate) const GREATER: &str = ">";
    pub(crate) const GREATER_EQUAL: &str = ">=";
    pub(crate) const IN: &str = "in";
    pub(crate) const NOT_IN: &str = "not in";
    pub(crate) const ATTRIBUTE: &str = ".";
    pub(crate) const ITEM: &str = "[]";
    pub(crate) const SLICE: &str = "[:]";
    pub(crate) const CALL: &str = "()";
    pub(crate) const CALL_METHOD: &str = ".()";
    pub(crate) const ITERATE: &str = "for";
    pub(crate) const KEEP: &str = "set";
}

/// The parameters that hold what a macro was given beyond its own.
pub(super) const VARARGS: &str = "varargs";
pub(super) const KWARGS: &str = "kwargs";

/// The template with every operator replaced. The error names a statement that chat templates
/// don't have: there is no other template to include, import or extend.
pub(super) fn rewrite<'a>(template: &Stmt<'a>) -> Result<Stmt<'a>, &'static str> {
    Rewriter::default().statement(template)
}

#[derive(Default)]
struct Rewriter {
    /// Whether the macro that is being rewritten mentions the parameter.
    varargs: bool,
    kwargs: bool,
}

type Rewritten<T> = Result<T, &'static str>;

impl Rewriter {
    fn body<'a>(&mut self, body: &[Stmt<'a>]) -> Rewritten<Vec<Stmt<'a>>> {
        body.iter().map(|statement| self.statement(statement)).collect()
    }

    fn statement<'a>(&mut self, statement: &Stmt<'a>) -> Rewritten<Stmt<'a>> {
        Ok(match statement {
            Stmt::Template(s) => Stmt::Template(Spanned::new(
                Template { children: self.body(&s.children)? },
                s.span(),
            )),
            Stmt::EmitExpr(s) => {
                Stmt::EmitExpr(Spanned::new(EmitExpr { expr: self.expr(&s.expr) }, s.span()))
            }
            Stmt::EmitRaw(s) => Stmt::EmitRaw(Spanned::new(EmitRaw { raw: s.raw }, s.span())),
            Stmt::ForLoop(s) => Stmt::ForLoop(Spanned::new(
                ForLoop {
                    target: target(&s.target)?,
                    iter: filter(operator::ITERATE, self.expr(&s.iter), vec![], s.span()),
                    filter_expr: s.filter_expr.as_ref().map(|expr| self.expr(expr)),
                    recursive: s.recursive,
                    body: self.body(&s.body)?,
                    else_body: self.body(&s.else_body)?,
                },
                s.span(),
            )),
            Stmt::IfCond(s) => Stmt::IfCond(Spanned::new(
                IfCond {
                    expr: self.expr(&s.expr),
                    true_body: self.body(&s.true_body)?,
                    false_body: self.body(&s.false_body)?,
                },
                s.span(),
            )),
            Stmt::WithBlock(s) => {
                let assignments = s.assignments.iter();
                let assignments = assignments
                    .map(|(name, value)| Ok((target(name)?, self.expr(value))))
                    .collect::<Rewritten<_>>()?;
                let block = WithBlock { assignments, body: self.body(&s.body)? };
                Stmt::WithBlock(Spanned::new(block, s.span()))
            }
            Stmt::Set(s) => {
                let mut expr = self.expr(&s.expr);
                // Only what a namespace keeps outlives a turn of a loop, so only it can nest
                // deeper and deeper.
                if !matches!(s.target, Expr::Var(_)) {
                    expr = filter(operator::KEEP, expr, vec![], s.span());
                }
                Stmt::Set(Spanned::new(Set { target: target(&s.target)?, expr }, s.span()))
            }
            Stmt::SetBlock(s) => Stmt::SetBlock(Spanned::new(
                SetBlock {
                    target: target(&s.target)?,
                    filter: s.filter.as_ref().map(|expr| self.expr(expr)),
                    body: self.body(&s.body)?,
                },
                s.span(),
            )),
            Stmt::FilterBlock(s) => Stmt::FilterBlock(Spanned::new(
                FilterBlock {
                    filter: self.expr(&s.filter),
                    filter_span: s.filter_span,
                    body: self.body(&s.body)?,
                },
                s.span(),
            )),
            Stmt::Macro(s) => Stmt::Macro(self.declaration(s)?),
            Stmt::CallBlock(s) => Stmt::CallBlock(Spanned::new(
                CallBlock {
                    call: self.block_call(&s.call),
                    call_expr_span: s.call_expr_span,
                    macro_decl: self.declaration(&s.macro_decl)?,
                },
                s.span(),
            )),
            Stmt::Continue(s) => {
                Stmt::Continue(Spanned::new(minijinja::machinery::ast::Continue, s.span()))
            }
            Stmt::Break(s) => Stmt::Break(Spanned::new(minijinja::machinery::ast::Break, s.span())),
            // The value goes to a name that no template can read.
            Stmt::Do(s) => Stmt::Set(Spanned::new(
                Set { target: variable("{% do %}", s.span()), expr: self.call(&s.call) },
                s.span(),
            )),
            Stmt::AutoEscape(_) => return Err("{% autoescape %}"),
            Stmt::Block(s) => Stmt::Block(Spanned::new(
                Block { name: s.name, required: s.required, body: self.body(&s.body)? },
                s.span(),
            )),
            Stmt::Import(_) => return Err("{% import %}"),
            Stmt::FromImport(_) => return Err("{% from %}"),
            Stmt::Extends(_) => return Err("{% extends %}"),
            Stmt::Include(_) => return Err("{% include %}"),
        })
    }

    /// A macro takes what it was given beyond its parameters as two more of them, if it mentions
    /// them. Defaults are assigned in its body, since a later one may use an earlier parameter.
    fn declaration<'a>(&mut self, s: &Spanned<Macro<'a>>) -> Rewritten<Spanned<Macro<'a>>> {
        let outer = std::mem::take(self);
        let mut body = Vec::new();
        let mut args = s.args.iter().map(target).collect::<Rewritten<Vec<_>>>()?;
        let with_default = &s.args[s.args.len() - s.defaults.len()..];
        for (arg, default) in with_default.iter().zip(&s.defaults) {
            let expr = Expr::Test(Spanned::new(
                Test { name: "undefined", expr: target(arg)?, args: vec![] },
                s.span(),
            ));
            let set = Set { target: target(arg)?, expr: self.expr(default) };
            let true_body = vec![Stmt::Set(Spanned::new(set, s.span()))];
            let condition = IfCond { expr, true_body, false_body: vec![] };
            body.push(Stmt::IfCond(Spanned::new(condition, s.span())));
        }
        body.append(&mut self.body(&s.body)?);
        let used = std::mem::replace(self, outer);
        args.extend(used.varargs.then(|| variable(VARARGS, s.span())));
        args.extend(used.kwargs.then(|| variable(KWARGS, s.span())));
        Ok(Spanned::new(Macro { name: s.name, args, defaults: vec![], body }, s.span()))
    }

    fn expr<'a>(&mut self, expr: &Expr<'a>) -> Expr<'a> {
        let span = expr.span();
        match expr {
            Expr::Var(e) => {
                self.varargs |= e.id == VARARGS;
                self.kwargs |= e.id == KWARGS;
                variable(e.id, span)
            }
            Expr::Const(e) => constant(e.value.clone(), span),
            Expr::Slice(e) => {
                let bounds = [&e.start, &e.stop, &e.step];
                let bounds = bounds.map(|bound| match bound {
                    Some(bound) => self.expr(bound),
                    None => constant(Value::from(()), span),
                });
                filter(operator::SLICE, self.expr(&e.expr), bounds.into(), span)
            }
            Expr::UnaryOp(e) => {
                let operand = self.expr(&e.expr);
                match e.op {
                    UnaryOpKind::Neg => filter(operator::NEGATE, operand, vec![], span),
                    UnaryOpKind::Not => Expr::UnaryOp(Spanned::new(
                        UnaryOp { op: UnaryOpKind::Not, expr: operand },
                        span,
                    )),
                }
            }
            Expr::BinOp(e) => {
                let (left, right) = (self.expr(&e.left), self.expr(&e.right));
                match binary(e.op) {
                    Some(name) => filter(name, left, vec![right], span),
                    None => Expr::BinOp(Spanned::new(BinOp { op: e.op, left, right }, span)),
                }
            }
            // `a < b < c` is `a < b and b < c`.
            Expr::Compare(e) => {
                let mut left = &e.expr;
                let mut all: Option<Expr<'a>> = None;
                for next in &e.ops {
                    let right = vec![self.expr(&next.expr)];
                    let one = filter(comparison(next.op), self.expr(left), right, span);
                    all = Some(match all {
                        Some(left) => Expr::BinOp(Spanned::new(
                            BinOp { op: BinOpKind::ScAnd, left, right: one },
                            span,
                        )),
                        None => one,
                    });
                    left = &next.expr;
                }
                all.unwrap_or_else(|| self.expr(&e.expr))
            }
            Expr::IfExpr(e) => Expr::IfExpr(Spanned::new(
                IfExpr {
                    test_expr: self.expr(&e.test_expr),
                    true_expr: self.expr(&e.true_expr),
                    false_expr: e.false_expr.as_ref().map(|expr| self.expr(expr)),
                },
                span,
            )),
            Expr::Filter(e) => Expr::Filter(Spanned::new(
                Filter {
                    name: e.name,
                    expr: e.expr.as_ref().map(|expr| self.expr(expr)),
                    args: self.args(&e.args),
                },
                span,
            )),
            Expr::Test(e) => Expr::Test(Spanned::new(
                Test { name: e.name, expr: self.expr(&e.expr), args: self.args(&e.args) },
                span,
            )),
            Expr::GetAttr(e) => {
                let name = constant(Value::from(e.name), span);
                filter(operator::ATTRIBUTE, self.expr(&e.expr), vec![name], span)
            }
            Expr::GetItem(e) => {
                let key = self.expr(&e.subscript_expr);
                filter(operator::ITEM, self.expr(&e.expr), vec![key], span)
            }
            Expr::Call(e) => self.call(e),
            Expr::List(e) => Expr::List(Spanned::new(List { items: self.exprs(&e.items) }, span)),
            Expr::Tuple(e) => {
                Expr::Tuple(Spanned::new(Tuple { items: self.exprs(&e.items) }, span))
            }
            Expr::Map(e) => Expr::Map(Spanned::new(
                Map { keys: self.exprs(&e.keys), values: self.exprs(&e.values) },
                span,
            )),
        }
    }

    fn exprs<'a>(&mut self, exprs: &[Expr<'a>]) -> Vec<Expr<'a>> {
        exprs.iter().map(|expr| self.expr(expr)).collect()
    }

    fn args<'a>(&mut self, args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
        args.iter()
            .map(|arg| match arg {
                CallArg::Pos(expr) => CallArg::Pos(self.expr(expr)),
                CallArg::Kwarg(name, expr) => CallArg::Kwarg(name, self.expr(expr)),
                CallArg::PosSplat(expr) => CallArg::PosSplat(filter(
                    operator::ITERATE,
                    self.expr(expr),
                    vec![],
                    expr.span(),
                )),
                CallArg::KwargSplat(expr) => CallArg::KwargSplat(self.expr(expr)),
            })
            .collect()
    }

    fn call<'a>(&mut self, call: &Spanned<Call<'a>>) -> Expr<'a> {
        let span = call.span();
        let mut args = self.args(&call.args);
        let (name, expr) = match &call.expr {
            // The engine recurses by jumping; what is looped over is Python's here too.
            Expr::Var(e) if e.id == "loop" => {
                for arg in &mut args {
                    if let CallArg::Pos(over) = arg {
                        let over = std::mem::replace(over, constant(Value::from(()), span));
                        *arg = CallArg::Pos(filter(operator::ITERATE, over, vec![], span));
                    }
                }
                let call = Call { expr: variable("loop", span), args };
                return Expr::Call(Spanned::new(call, span));
            }
            Expr::GetAttr(e) => {
                args.insert(0, CallArg::Pos(constant(Value::from(e.name), span)));
                (operator::CALL_METHOD, self.expr(&e.expr))
            }
            callee => (operator::CALL, self.expr(callee)),
        };
        Expr::Filter(Spanned::new(Filter { name, expr: Some(expr), args }, span))
    }

    /// The call of `{% call %}`, to which the engine adds `caller`: only a call can take it, so it
    /// is one of a method that no object has, which the environment's last resort answers.
    fn block_call<'a>(&mut self, call: &Spanned<Call<'a>>) -> Spanned<Call<'a>> {
        let callee = GetAttr { expr: self.expr(&call.expr), name: operator::CALL };
        let expr = Expr::GetAttr(Spanned::new(callee, call.span()));
        Spanned::new(Call { expr, args: self.args(&call.args) }, call.span())
    }
}

/// What is assigned to: a name, an attribute of a namespace, or several of them.
fn target<'a>(expr: &Expr<'a>) -> Rewritten<Expr<'a>> {
    let span = expr.span();
    Ok(match expr {
        Expr::Var(e) => variable(e.id, span),
        Expr::GetAttr(e) => {
            let attribute = GetAttr { expr: target(&e.expr)?, name: e.name };
            Expr::GetAttr(Spanned::new(attribute, span))
        }
        Expr::List(e) => {
            let items = e.items.iter().map(target).collect::<Rewritten<_>>()?;
            Expr::List(Spanned::new(List { items }, span))
        }
        Expr::Tuple(e) => {
            let items = e.items.iter().map(target).collect::<Rewritten<_>>()?;
            Expr::Tuple(Spanned::new(Tuple { items }, span))
        }
        _ => return Err("an assignment to something that is not a name"),
    })
}

fn variable(id: &str, span: Span) -> Expr<'_> {
    Expr::Var(Spanned::new(Var { id }, span))
}

fn constant<'a>(value: Value, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(Const { value }, span))
}

fn filter<'a>(name: &'a str, expr: Expr<'a>, args: Vec<Expr<'a>>, span: Span) -> Expr<'a> {
    let args = args.into_iter().map(CallArg::Pos).collect();
    Expr::Filter(Spanned::new(Filter { name, expr: Some(expr), args }, span))
}

/// The filter for an operator; `and` and `or` are the engine's.
fn binary(op: BinOpKind) -> Option<&'static str> {
    Some(match op {
        BinOpKind::ScAnd | BinOpKind::ScOr => return None,
        BinOpKind::Eq => operator::EQUAL,
        BinOpKind::Ne => operator::NOT_EQUAL,
        BinOpKind::Lt => operator::LESS,
        BinOpKind::Lte => operator::LESS_EQUAL,
        BinOpKind::Gt => operator::GREATER,
        BinOpKind::Gte => operator::GREATER_EQUAL,
        BinOpKind::Add => operator::ADD,
        BinOpKind::Sub => operator::SUBTRACT,
        BinOpKind::Mul => operator::MULTIPLY,
        BinOpKind::Div => operator::DIVIDE,
        BinOpKind::FloorDiv => operator::FLOOR_DIVIDE,
        BinOpKind::Rem => operator::REMAINDER,
        BinOpKind::Pow => operator::POWER,
        BinOpKind::Concat => operator::CONCAT,
        BinOpKind::In => operator::IN,
    })
}

fn comparison(op: CompareOpKind) -> &'static str {
    match op {
        CompareOpKind::Eq => operator::EQUAL,
        CompareOpKind::Ne => operator::NOT_EQUAL,
        CompareOpKind::Lt => operator::LESS,
        CompareOpKind::Lte => operator::LESS_EQUAL,
        CompareOpKind::Gt => operator::GREATER,
        CompareOpKind::Gte => operator::GREATER_EQUAL,
        CompareOpKind::In => operator::IN,
        CompareOpKind::NotIn => operator::NOT_IN,
    }
}
