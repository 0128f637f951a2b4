# head
job   "x"   {
datacenters=["a","b"]   # trailing
  type="batch"  // other
    group "g" {
  count=1+2*-3
  tags={
  a=1
   bb  =   2
   "quoted"=  3
  }
  longer_name = "x"
  x=[
  1,2,
    3 ]
  config{ command="a" }
    meta { a="1" }
    empty {}
      task "t" {
        driver ="exec"   
        env { A = "b${ var.x+1 }-${upper( "q" )}" }
        y=foo( 1,2 )
        z = a?b:c
        zz = !a&&b
        neg = -1
        minus = a-1 - -b
        f = [for k,v in x:k if v]
        g = {for k,v in x:k=>v...}
        o = { "a":1, b=2, (c) = 3 }
        d = <<-EOT
   keep   this
   EOT
        aa = x . y[ 0 ] . z
        s = a.*.b
        s2 = a[*].b
        p = ((1+2)*3)/4 %5
        cmp = a>=b||c<d
        list = [ ]
        obj = {}
        nest = [ {a=1}, {b=2} ]
        func = concat([1],[2]) [0]
      w = "1"  /* c1 */
        template {
          data = <<EOF
{{ key }}
     raw
EOF
          destination = "local/x"
        }
      }


   /* block
  comment */
   // last
 } 
}
locals { a = { b = [ 1,
 2,
  { c = 3 } ] } }
