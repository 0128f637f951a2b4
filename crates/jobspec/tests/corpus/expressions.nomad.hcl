locals {
  list  = ["a", "b", "c"]
  map   = { x = 1, y = 2 }
  users = [{ name = "ann", age = 30 }, { name = "bob", age = 17 }]
  deep  = { a = [{ b = "found" }] }
}
job "expressions" {
  meta = {
    splat   = join(",", local.users[*].name)
    attr    = join(",", local.users.*.name)
    scalar  = join(",", local.list[0][*])
    index   = local.deep.a[0].b
    legacy  = local.list.1
    cond    = local.map.x > 1 ? "big" : 7
    filter  = join(",", [for u in local.users : u.name if u.age >= 18])
    keys    = join(",", [for k, v in local.map : "${k}:${v}"])
    objs    = jsonencode({ for i, v in local.list : v => i })
    group   = jsonencode({ for u in local.users : (u.age > 18 ? "old" : "young") => u.name... })
    math    = 7 % 3 + 2 * 3 - 10 / 4
    strnum  = "4" + 1
    neg     = -local.map.y
    not     = !true || false
    same    = "1" == 1
    diff    = 1 != 2
    paren   = (1 + 2) * 3
    null    = jsonencode(null)
    try     = try(local.map.z, "fallback")
    can     = can(local.map.z)
    tmplif  = "%{ if local.map.x == 1 }one%{ else }other%{ endif }"
    tmplfor = "%{ for x in local.list }[${x}]%{ endfor }"
    strip   = "a   ${~ "b" ~}   c"
    nested  = "${"${"deep"}"}"
    escape  = "tab\tquote\"uni\u00e9 $${x} %%{y}"
    half    = 0.5
    big     = 12345678901234567890
    expand  = max([1, 5, 3]...)
    raw     = env["HOME"]
    raw2    = "x-${ node.class }-y"
    upper   = upper(attr.cpu.arch)
  }
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
        object  = { "a b" = 1, c = [true, null] }
      }
    }
  }
}
