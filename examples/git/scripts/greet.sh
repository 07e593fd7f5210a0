echo "Hello from $COMMIT"
