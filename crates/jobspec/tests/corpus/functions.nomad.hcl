job "a" {
  meta { 
   a = join(",", [for k, v in { b = 1, a = true } : "${k}=${v}"])
   e = jsonencode({ a = [1, null], "x y" = "<&>" })
   f = convert("12", number) + 1
   g = reverse("abc")
   h = format("%05.1f %q %s %v %d%%", 3.14159, "x", true, [1,"a"], 3)
   i = index(["a","b"], 1)
   j = <<-EOT
      %{ for x in ["a", "b"] ~}
      item ${x}
      %{ endfor ~}
      done
   EOT
   k = yamlencode({a = [1, "x", {b = true}], c = "multi\nline"})
   l = formatdate("YYYY-MM-DD'T'hh:mm:ssZ EEEE MMMM", "2024-02-03T04:05:06Z")
   o = regex_replace("abc", "(b)", "<$1>")
   p = jsonencode(setproduct(["a","b"],[1,2]))
   q = jsonencode(chunklist([1,2,3],2))
   r = cidrsubnet("10.0.0.0/8", 8, 2)
   s = jsonencode(cidrsubnets("10.0.0.0/8", 8, 4))
   t = cidrhost("10.0.0.0/8", -2)
   u = uuidv5("dns", "example.com")
   v = title("hello world")
   w = jsonencode(csvdecode("a,b\n1,2"))
   x = log(8, 2)
   y = jsonencode(try({}.zz, "d"))
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
