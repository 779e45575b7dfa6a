module github.com/pillion-proxy/pillion

go 1.26
