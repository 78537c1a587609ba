//! Body codecs of the AWS protocols: query and ec2 forms, JSON, REST-XML.
