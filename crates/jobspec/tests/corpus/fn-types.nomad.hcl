job "fn-types" {
  meta = {
    f00 = jsonencode(convert("5", number))
    f01 = jsonencode(convert(5, string))
    f02 = jsonencode(convert("true", bool))
    f03 = jsonencode(convert(["a", "a"], set(string)))
    f04 = jsonencode(convert({ a = 1 }, map(string)))
    f05 = jsonencode(can({ a = 1 }.b))
    f06 = jsonencode(can({ a = 1 }.a))
    f07 = jsonencode(try({ a = 1 }.b, "fallback"))
    f08 = jsonencode(coalesce("", "a", "b"))
    f09 = jsonencode(coalesce(null, "x"))
    f10 = jsonencode(true ? "yes" : "no")
    f11 = jsonencode(null)
    f12 = jsonencode([1, "a", true])
    f13 = jsonencode({ a = null })
    f14 = jsonencode("${true}")
    f15 = jsonencode("${1.50}")
    f16 = jsonencode("${"nested ${"deep"}"}")
    f17 = jsonencode("%{ if true }yes%{ else }no%{ endif }")
    f18 = jsonencode("%{ for x in [1, 2, 3] }${x},%{ endfor }")
    f19 = jsonencode("a%{ if false ~}  gone  %{ endif ~} b")
  }
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
