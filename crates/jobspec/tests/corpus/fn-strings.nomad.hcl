job "fn-strings" {
  meta = {
    f00 = jsonencode(chomp("a\n\n"))
    f01 = jsonencode(format("%s-%03d", "a", 7))
    f02 = jsonencode(format("%t %b %o %X %e", true, 5, 8, 255, 12345.678))
    f03 = jsonencode(format("%-6s|%6s|", "ab", "cd"))
    f04 = jsonencode(formatlist("%s=%d", ["a", "b"], [1, 2]))
    f05 = jsonencode(formatlist("x-%s", "a"))
    f06 = jsonencode(indent(4, "a\nb\nc"))
    f07 = jsonencode(join("-", ["a"], ["b", "c"]))
    f08 = jsonencode(lower("ÀB"))
    f09 = jsonencode(upper("éa"))
    f10 = jsonencode(replace("a.b.c", ".", "-"))
    f11 = jsonencode(replace("aXbX", "X", ""))
    f12 = jsonencode(split("/", "/a//b/"))
    f13 = jsonencode(strrev("abc"))
    f14 = jsonencode(substr("hello", 1, 3))
    f15 = jsonencode(substr("hello", 2, -1))
    f16 = jsonencode(title("two words"))
    f17 = jsonencode(trimprefix("v1.2", "v"))
    f18 = jsonencode(trimsuffix("a.txt", ".txt"))
    f19 = jsonencode(trimspace("  a b\n"))
    f20 = jsonencode(strlen("日本"))
    f21 = jsonencode(regex_replace("2024-01-02", "(\\d+)-(\\d+)-(\\d+)", "$3.$2.$1"))
    f22 = jsonencode(urlencode("?a=b&c=d"))
    f23 = jsonencode("tab\t quote\" unicode\u00e9")
    f24 = jsonencode("$${literal} %%{literal}")
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
