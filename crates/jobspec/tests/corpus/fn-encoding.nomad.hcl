job "fn-encoding" {
  meta = {
    f00 = jsonencode(base64encode("hello"))
    f01 = jsonencode(base64decode("aGVsbG8="))
    f02 = jsonencode(jsonencode({ b = [true, null], a = "<>&" }))
    f03 = jsonencode(jsondecode("{\"a\": [1, 2.5, \"x\"]}"))
    f04 = jsonencode(yamldecode("a: [1, b]\nc: {d: true}"))
    f05 = jsonencode(yamlencode({ a = "b", c = [1, 2] }))
    f06 = jsonencode(csvdecode("name,age\nann,30\nbob,25"))
    f07 = jsonencode(md5("a"))
    f08 = jsonencode(sha1("a"))
    f09 = jsonencode(sha256("a"))
    f10 = jsonencode(sha512("a"))
    f11 = jsonencode(uuidv5("url", "https://example.com"))
    f12 = jsonencode(urlencode("a b+c"))
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
