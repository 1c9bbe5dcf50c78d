def main(event, context):
    # A route's event, or the payload itself.
    return event["body"] if "rawPath" in event else event
