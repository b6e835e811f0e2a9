echo "servers: todo"
